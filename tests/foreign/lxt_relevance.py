"""Relevance of two small vision transformers by lxt 2.1, the code of the authors of AttnLRP; it writes a JSON file.

lxt needs an older transformers than we do, and many packages that it does not use here. So this ran once, with
`lxt==2.1`, `transformers==4.53.3` and torch 2.15, and tests compare with the numbers that it wrote:

    python tests/foreign/lxt_relevance.py tests/data/lxt-relevance.json

- `torchvision`: `lxt.efficient` on torchvision's VisionTransformer: its own patches for LayerNorm and GELU, and its
  patch for attention functions around `scaled_dot_product_attention`.
- `transformers`: `lxt.efficient` on Hugging Face's ViTForImageClassification with eager attention, patched in the same
  way.
- `explicit`: `lxt.explicit.functional`, which propagates relevance itself instead of gradients, on the first model
  written out by hand, in float64 with epsilon 1e-30.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lxt.explicit.functional as lf
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
import transformers
from lxt.efficient import patches
from lxt.explicit.rules import identity
from torch import Tensor, nn
from transformers.models.vit import modeling_vit

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_transformers import TARGETS, fill, images, torchvision_vit, transformers_vit

EPSILON = 1e-30

RENAMED = {
    "encoder.layer.": "layers.",
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
"""Names of transformers 4 -> names of transformers 5."""


def efficient(model: nn.Module, image: Tensor) -> list[Any]:
    leaf = image.clone().requires_grad_()
    output = model(leaf)
    logits = output if isinstance(output, Tensor) else output.logits
    (gradient,) = torch.autograd.grad(logits.gather(1, TARGETS[:, None]).sum(), leaf)
    return (leaf * gradient).detach().tolist()


def patch() -> None:
    patches.patch_method(patches.layer_norm_forward, nn.LayerNorm)
    patches.patch_method(patches.non_linear_forward, nn.GELU, keep_original=True)
    activation = type(transformers.activations.ACT2FN["gelu"])
    patches.patch_method(patches.non_linear_forward, activation, keep_original=True)
    modeling_vit.eager_attention_forward = patches.wrap_attention_forward(modeling_vit.eager_attention_forward)
    fused = F.scaled_dot_product_attention
    wrapped = patches.wrap_attention_forward(lambda _module, *arguments: fused(*arguments))
    F.scaled_dot_product_attention = lambda query, key, value, *_rest, **_named: wrapped(None, query, key, value)


def explicit(model: torchvision.models.VisionTransformer, image: Tensor) -> list[Any]:
    """Relevance by `lxt.explicit`, operation by operation."""
    leaf = image.double().requires_grad_()
    logits = written_out(model.double(), leaf)
    start = torch.zeros_like(logits).scatter_(1, TARGETS[:, None], 1.0) * logits.detach()
    (relevance,) = torch.autograd.grad(logits, leaf, start)
    return relevance.tolist()


def written_out(model: torchvision.models.VisionTransformer, image: Tensor) -> Tensor:
    def linear(layer: nn.Linear, x: Tensor) -> Tensor:
        return lf.linear_epsilon(x, layer.weight.detach(), layer.bias.detach(), EPSILON)

    def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
        return lf.layer_norm_grad_fn.apply(x, layer.weight.detach(), layer.bias.detach(), layer.eps, EPSILON)

    patch_px, width = model.patch_size, model.hidden_dim
    batch = len(image)
    # a convolution with a stride of its own size is a dense layer on patches
    patches_of_image = F.unfold(image, patch_px, stride=patch_px).mT
    kernel = model.conv_proj.weight.detach().flatten(1)
    x = lf.linear_epsilon(patches_of_image, kernel, model.conv_proj.bias.detach(), EPSILON)
    x = torch.cat([model.class_token.detach().expand(batch, -1, -1), x], dim=1)
    x = lf.add2(x, model.encoder.pos_embedding.detach(), epsilon=EPSILON)
    for block in model.encoder.layers:
        attention, heads = block.self_attention, block.self_attention.num_heads
        projected = lf.linear_epsilon(
            norm(block.ln_1, x), attention.in_proj_weight.detach(), attention.in_proj_bias.detach(), EPSILON
        )
        query, key, value = projected.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        # a constant factor passes all relevance on
        scores = lf.mul2(lf.matmul(query, key.mT, epsilon=EPSILON), (width / heads) ** -0.5)
        mixed = lf.matmul(lf.softmax(scores, -1), value, epsilon=EPSILON)
        joined = linear(attention.out_proj, mixed.transpose(1, 2).flatten(2))
        x = lf.add2(joined, x, epsilon=EPSILON)
        hidden = identity(F.gelu, linear(block.mlp[0], norm(block.ln_2, x)))
        x = lf.add2(x, linear(block.mlp[3], hidden), epsilon=EPSILON)
    return linear(model.heads.head, norm(model.encoder.ln, x)[:, 0])


def main(path: Path) -> None:
    image = images()
    found = {"explicit": explicit(fill(torchvision_vit()), image)}
    patch()
    found["torchvision"] = efficient(fill(torchvision_vit()), image)
    found["transformers"] = efficient(fill(transformers_vit(), RENAMED), image)
    path.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
