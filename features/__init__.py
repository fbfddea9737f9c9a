"""Features, population and labels: frames in, frames out, each row knowing only what its as-of date may know."""
