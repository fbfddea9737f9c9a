"""The catalogue of reasons covers the features, each once, in words of both languages."""

from __future__ import annotations

from collections import Counter

from conf.features import FEATURES
from conf.reasons import REASON_OF, REASON_WORDS, REASONS


def test_every_feature_stands_in_exactly_one_reason():
    told = Counter(feature for reason in REASONS for feature in reason.features)
    assert told == Counter(feature.name for feature in FEATURES)
    assert all(name in REASONS[place].features for name, place in REASON_OF.items())


def test_every_reason_has_two_codes_with_words_of_their_own():
    assert len(REASON_WORDS) == 2 * len(REASONS)
    for language in ("en", "ko"):
        assert len({getattr(words, language) for words in REASON_WORDS.values()}) == len(REASON_WORDS)
    words = REASON_WORDS["bureau_score_lowered_risk"]
    assert words.en == "Your credit bureau score lowered your risk of default."
    assert words.ko == "신용평가사 점수가 부도 위험을 낮췄습니다."
