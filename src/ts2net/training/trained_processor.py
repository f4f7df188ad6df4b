"""Processor that is saved with a trained model. It stores the frames and words that the model was trained with."""

import copy

from ..processing_ts2net import TS2NetProcessor
from .arguments import TS2NetTrainingArguments


def processor_of_run(processor: TS2NetProcessor, args: TS2NetTrainingArguments) -> TS2NetProcessor:
    """Return a copy of a processor with the frames, words and clock of a run, for evaluations of the saved model.

    Args:
        processor: The model's processor.
        args: The run's arguments.
    """
    trained = copy.copy(processor)
    trained.video_processor = copy.copy(processor.video_processor)
    trained.video_processor.num_frames = args.num_frames
    if args.clock is not None:
        trained.video_processor.clock = args.clock
    trained.max_words = args.max_words
    return trained
