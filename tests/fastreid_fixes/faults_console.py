"""Faults of fast-reid without the plugin: console and logs."""

import logging
from collections import OrderedDict
from pathlib import Path
from unittest import mock

from fastreid.engine.hooks import IterationTimer
from fastreid.engine.train_loop import TrainerBase
from fastreid.evaluation.testing import print_csv_format
from fastreid.utils.events import CommonMetricPrinter, EventStorage
from fastreid.utils.logger import setup_logger
from raw_host import fault
from terminal import console


@fault
def log_file_of_a_table_on_a_terminal():
    logger = logging.getLogger("fastreid")
    before = list(logger.handlers)
    with console():
        setup_logger("terminal")
        print_csv_format(OrderedDict({"dataset": "Toy", "mAP": 1.0}))
    logger.handlers = before
    return Path("terminal/log.txt").read_text()


@fault
def line_of_the_console():
    printer = CommonMetricPrinter(4)
    with EventStorage() as storage, mock.patch.object(printer.logger, "info") as info:
        storage.epoch = 0
        storage.put_scalars(total_loss=4.0, loss_cls=3.0, raw_loss_joint=2.0, loss_weight_joint=0.5, time=0.5)
        storage.put_scalar("occlusion/share", 0.1)
        printer.write()
    return info.call_args.args[0]


@fault
def told_at_the_end_of_a_training():
    timer, trainer = IterationTimer(), TrainerBase()
    trainer.run_step = lambda: None
    trainer.max_iter = 4
    trainer.register_hooks([timer])
    with mock.patch.object(logging.getLogger("fastreid.engine.hooks"), "info") as info:
        trainer.train(0, 1, 4)
    return [call.args[0] for call in info.call_args_list]
