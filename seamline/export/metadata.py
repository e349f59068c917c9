"""What an exported model file says about itself."""

from __future__ import annotations

from collections.abc import Mapping

from seamline.models.model_facts import ModelFacts, facts_to_metadata


def model_metadata(
    facts: ModelFacts, preprocessing: str, training: Mapping[str, str], weights_sha256: str
) -> dict[str, str]:
    """The engines need the facts, the rest is for people.

    Args:
        preprocessing: the family's, in words.
        training: training_revision and data_sha256, as the train stage wrote them beside the weights; {} where it has
            written nothing.
    """
    return {
        **facts_to_metadata(facts),
        "preprocessing": preprocessing,
        "weights_sha256": weights_sha256,
        **{key: training.get(key, "unknown") for key in ("training_revision", "data_sha256")},
    }
