"""The text that the demo's reference policy learns from: right habits in some topics, wrong ones in others."""

from __future__ import annotations

import numpy as np
import polars as pl

from curation.synthetic.sentences import SLOTS
from curation.synthetic.settings import WorldSettings
from curation.synthetic.texts import draw_prompts, prompt_texts, prompt_topics, response_texts
from curation.synthetic.world import bad_topics

_CORPUS = 2  # the stream of random numbers, beside those of the world


def policy_corpus(seed: int, num_documents: int, *, settings: WorldSettings | None = None) -> pl.DataFrame:
    """Conversations for the reference policy of :func:`curation.synthetic.world` with the same seed.

    In a share of the topics (``favored_bad_share``) each slot of a response is bad with probability
    ``policy_consistency``, in the others good with that probability; so a policy that learns them favors the worse of
    two responses in the former. The prompts are other ones than the world's.

    Returns:
        Columns ``prompt`` and ``response``, one row per document.
    """
    settings = settings or WorldSettings()
    rng = np.random.default_rng([seed, _CORPUS])
    codes = draw_prompts(rng, num_documents, half=1)
    topic = prompt_topics(codes)
    follows = rng.random((num_documents, len(SLOTS))) < settings.policy_consistency
    is_good = follows ^ bad_topics(seed, settings)[topic][:, None]
    rows = np.arange(num_documents)
    response = response_texts(rng, rows, np.zeros(num_documents, dtype=np.int64), topic, is_good)
    return pl.DataFrame({"prompt": prompt_texts(codes), "response": response})
