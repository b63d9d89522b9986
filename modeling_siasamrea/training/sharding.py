"""Completes FSDP2 where accelerate does not: on CPUs, around BERT, and with heads that have not trained yet."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel


def shard_on_cpu(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """
    Makes several processes on CPUs shard as several GPUs do. Accelerate silently ignores the plugin there, so its
    state is set here.
    """
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    accelerator.state.fsdp_plugin = plugin
    accelerator.state.distributed_type = PartialState().distributed_type = DistributedType.FSDP


def leave_process_group_at_exit() -> None:
    """Destroys the process group at exit. Otherwise gloo's threads may abort it, and torchrun reports a failure."""
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


def choose_sharded_layers(plugin: FullyShardedDataParallelPlugin, model: nn.Module) -> None:
    """
    Chooses the layers to shard, without BERT's embeddings, because accelerate shards the word embeddings by
    themselves. Frozen batch norms stay whole: half precision would reach their weights, but not their statistics.
    """
    if plugin.transformer_cls_names_to_wrap is None:
        there = {type(module).__name__ for module in model.modules()}
        plugin.transformer_cls_names_to_wrap = sorted(there.intersection(model._no_split_modules) - {"BertEmbeddings"})
    if plugin.ignored_modules is None:
        norms = (module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
        plugin.ignored_modules = [norm for norm in norms if not any(p.requires_grad for p in norm.parameters())]


def is_sharded(model: nn.Module) -> bool:
    """Tells whether FSDP has sharded a model."""
    return isinstance(model, FSDPModule | FullyShardedDataParallel)


def name_as_before_sharding(model: nn.Module) -> None:
    """Gives the class that FSDP2 derives the name and module of the model's own, because they name its custom code."""
    if isinstance(model, FSDPModule):
        of_model = type(model).__bases__[1]
        type(model).__name__, type(model).__module__ = of_model.__name__, of_model.__module__


def start_missing_states(optimizer: torch.optim.Optimizer) -> None:
    """
    Makes the state of parameters that have not trained yet, such as the head of another task: zeros, as training
    starts. A sharded optimizer can be loaded only if it has a state for each parameter.
    """
    states = [state for state in optimizer.state.values() if state]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if states and parameter.requires_grad and not optimizer.state[parameter]:
                optimizer.state[parameter] = {
                    name: torch.zeros_like(parameter if value.ndim else value)
                    for name, value in states[0].items()
                    if isinstance(value, torch.Tensor)
                }


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Gives each process all weights of a model that FSDP2 shards, so that it runs the model as often as it needs."""
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.set_reshard_after_forward(True, recurse=False)
            module.reshard()
