"""Makes model.safetensors and config.json of this folder from the bfloat16 original. `mlxr quantize` replaces it later.

usage: quantize.py ORIGINAL [OUT]    ORIGINAL: the folder of the bfloat16 model; OUT: this folder by default
needs: pip install "mlx[cpu]==0.32.2" mlx-lm==0.32.2

The format is mlx-lm's own, and mlx-lm writes it. Why these bits: the table in README.md.
"""

import sys
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, quantize_model, save_config

LAYERS = {"group_size": 64, "bits": 4, "mode": "affine"}
# Also the output head, which is tied to it: the one matrix where 4 bits can be told from bfloat16.
EMBEDDING = {"group_size": 64, "bits": 6, "mode": "affine"}


def main(original: Path, out: Path) -> None:
    mx.set_default_device(mx.cpu)
    model, config = load_model(original)
    model, config = quantize_model(
        model,
        config,
        **LAYERS,
        quant_predicate=lambda path, _: EMBEDDING if path == "model.embed_tokens" else True,
    )
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(out / "model.safetensors"), weights, metadata={"format": "mlx"})
    save_config(config, out / "config.json")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent)
