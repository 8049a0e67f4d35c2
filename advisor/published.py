"""Weights that others have published, as files of numbers: fetched once, or taken from a local file, and never from a pickle.

A `.safetensors` file holds arrays and cannot run anything when it is read. timm's weights are on the Hugging Face Hub in that form; the
Hub's own cache keeps them, so that a second run needs no network.
"""

from __future__ import annotations

from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING

from rules.problems import Problem, bad_environment, bad_input

if TYPE_CHECKING:
    from torch import nn

HUB = "hub"
FILE = "model.safetensors"


def local(weights: str) -> str:
    """A local file of weights. Raises Problem (exit 3) where it is not there, or is none that holds only numbers."""
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.is_file():
        raise bad_input(f"no weights {weights}", remedy='a .safetensors file that is there, or "hub" for published ones')
    return str(path)


def begin(module: nn.Module, weights: str) -> None:
    """Fill `module` with the numbers of a local file, which must be its own in every name and shape. Raises Problem (exit 3)."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(local(weights)))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise bad_input(
            f"{weights} does not fit {type(module).__name__}: {' '.join(str(error).split())[:200]}", remedy="weights must be this net's own"
        ) from None


def of_timm(net: str) -> str:
    """The file of timm's published weights of `net`, from the Hub's cache or the Hub.

    Raises Problem: exit 2 for a net that has none there, exit 5 where the Hub is not reached.
    """
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    found = timm.get_pretrained_cfg(net, allow_unregistered=True)
    if found is None or not found.hf_hub_id:
        raise Problem(
            f"timm has published no weights of {net} on the Hub", remedy="leave weights out of the plan, or name a .safetensors file"
        )
    said = logging.get_verbosity()
    logging.set_verbosity(ERROR)  # each of its tries writes a line
    try:
        return str(hf_hub_download(found.hf_hub_id, FILE))
    except (OSError, RuntimeError) as error:
        raise bad_environment(
            f"the published weights of {net} ({found.hf_hub_id}) are not in the Hub's cache and cannot be fetched: {type(error).__name__}",
            remedy='connect once, or name a .safetensors file of timm\'s: weights = "path/model.safetensors"',
        ) from None
    finally:
        logging.set_verbosity(said)
