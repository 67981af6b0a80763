"""Checks of a recipe that need the encoder."""

from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.recipe.settings import Recipe


def check_with_encoder(recipe: Recipe, encoder: Encoder) -> None:
    """Raises ValueError where the encoder, or the packages that are there, cannot do what the recipe asks for."""
    recipe.train.aggregation.check_installed()
    config, pal = encoder.config, recipe.model.pal
    for name, task in recipe.tasks.items():
        pooled = task.pooled(recipe.model.pooling) == "cls"
        shared = any(p.requires_grad for p in encoder.behind(pooled=pooled))
        adapted = pal is not None and pal.adapts(name)
        if not shared and not adapted and (not task.head_kind.has_weights or not task.scored):
            raise ValueError(
                f"tasks.{name}: with model.freeze: {recipe.model.freeze} there is nothing left to train for this task. "
                "Freeze fewer layers, or give it a head and a loss that trains it."
            )
        for loss in task.losses:
            rates = (config.hidden_dropout, config.attention_dropout, task.head_dropout(loss))
            if loss.needs.dropout and not any(rates):
                raise ValueError(
                    f"tasks.{name}: loss '{loss.kind}' compares two passes that differ in dropout alone, and "
                    f"{recipe.model.path} has none in its config. Set model.dropout: 0.1."
                )


def check_length(recipe: Recipe, config: EncoderConfig) -> None:
    if recipe.model.max_length > config.max_length:
        raise ValueError(
            f"model.max_length: {recipe.model.max_length} is more than the {config.max_length} positions of "
            f"{recipe.model.path}. Use at most {config.max_length}."
        )
