"""Models in and out: loading from anywhere, cards, folders and pushes that stand alone on the Hub."""

from .card import TAGS, Evaluation, add_evaluation, make_model_card
from .saving import HUB_FILES, push_to_hub, save_hub_folder

__all__ = ["HUB_FILES", "TAGS", "Evaluation", "add_evaluation", "make_model_card", "push_to_hub", "save_hub_folder"]
