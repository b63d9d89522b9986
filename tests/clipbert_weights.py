"""Random weights under the names of ClipBERT's official checkpoints."""

import torch


HIDDEN, HEADS, WORDS = 16, 2, 90
STAGES = {2: (8, 2), 3: (16, 1), 4: (16, 1), 5: (32, 1)}  # output width, layers


def official_state(head: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Random weights under ClipBERT's names; `head` gives the names and shapes after `transformer.`."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape):
        return torch.randn(*shape, generator=generator) * 0.3

    def norm(prefix, width):
        state[f"{prefix}.weight"] = 1 + weight(width)
        state[f"{prefix}.bias"] = weight(width)

    def convolution(prefix, outputs, inputs, size):
        state[f"{prefix}.weight"] = weight(outputs, inputs, size, size)
        norm(f"{prefix}.norm", outputs)
        state[f"{prefix}.norm.running_mean"] = weight(outputs)
        state[f"{prefix}.norm.running_var"] = 1 + weight(outputs).abs()

    def linear(prefix, outputs, inputs):
        state[f"{prefix}.weight"], state[f"{prefix}.bias"] = weight(outputs, inputs), weight(outputs)

    state: dict[str, torch.Tensor] = {}
    backbone = "cnn.feature.backbone"
    convolution(f"{backbone}.stem.conv1", 4, 3, 7)
    inputs = 4
    for stage, (width, layers) in STAGES.items():
        for layer in range(layers):
            prefix = f"{backbone}.res{stage}.{layer}"
            if layer == 0:
                convolution(f"{prefix}.shortcut", width, inputs, 1)
            convolution(f"{prefix}.conv1", width // 4, inputs, 1)
            convolution(f"{prefix}.conv2", width // 4, width // 4, 3)
            convolution(f"{prefix}.conv3", width, width // 4, 1)
            inputs = width
    state["cnn.feature.roi_heads.box_head.fc1.weight"] = weight(3)  # the detector's: left out
    state["cnn.grid_encoder.0.weight"] = weight(HIDDEN, inputs, 3, 3)
    visual, text = "transformer.bert.visual_embeddings", "transformer.bert.embeddings"
    for prefix, names in (
        (visual, {"row_position": 6, "col_position": 7, "position": 9, "token_type": 1}),
        (text, {"word": WORDS, "position": 20, "token_type": 2}),
    ):
        for name, rows in names.items():
            state[f"{prefix}.{name}_embeddings.weight"] = weight(rows, HIDDEN)
        norm(f"{prefix}.LayerNorm", HIDDEN)
    for layer in range(2):
        prefix = f"transformer.bert.encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            linear(f"{prefix}.{name}", HIDDEN, HIDDEN)
        norm(f"{prefix}.attention.output.LayerNorm", HIDDEN)
        linear(f"{prefix}.intermediate.dense", 2 * HIDDEN, HIDDEN)
        linear(f"{prefix}.output.dense", HIDDEN, 2 * HIDDEN)
        norm(f"{prefix}.output.LayerNorm", HIDDEN)
    linear("transformer.bert.pooler.dense", HIDDEN, HIDDEN)
    for name, shape in head.items():
        state[f"transformer.{name}"] = weight(*shape).abs() if name.endswith("running_var") else weight(*shape)
    return state


OPEN_ENDED = {"classifier.0.weight": (32, 16), "classifier.0.bias": (32,)}
OPEN_ENDED |= {"classifier.2.weight": (7, 32), "classifier.2.bias": (7,)}
MULTIPLE_CHOICE = OPEN_ENDED | {"classifier.2.weight": (1, 32), "classifier.2.bias": (1,)}
COUNT = {
    f"regressor.{i}.{name}": (16, 16) if name == "weight" and i == 0 else (16,)
    for i in (0, 2)
    for name in ("weight", "bias")
}
COUNT |= {"regressor.2.running_mean": (16,), "regressor.2.running_var": (16,)}
COUNT |= {"regressor.4.weight": (1, 16), "regressor.4.bias": (1,)}
PRETRAINING = {"cls.seq_relationship.weight": (2, 16), "cls.seq_relationship.bias": (2,)}
PRETRAINING |= {f"cls.predictions.transform.{name}.bias": (16,) for name in ("dense", "LayerNorm")}
PRETRAINING |= {
    "cls.predictions.transform.dense.weight": (16, 16),
    "cls.predictions.transform.LayerNorm.weight": (16,),
}
PRETRAINING |= {"cls.predictions.bias": (WORDS,), "cls.predictions.decoder.weight": (WORDS, 16)}
