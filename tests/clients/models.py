"""Small models for the tests, made of those that are there."""

import json
import os
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[2]

STORIES = ROOT / "vendor" / "stories"

# Tells of tools, as a family does that calls with JSON between tags.
TEMPLATE = (
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content }}"
    "{% for call in message.tool_calls %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def caller(folder):
    """The built-in model, with a template that knows tools."""
    model = pathlib.Path(folder) / "caller"
    shutil.copytree(STORIES, model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    return str(model)


def embedder(folder):
    """The built-in model, saying that it makes embeddings."""
    model = pathlib.Path(folder) / "embedder"
    shutil.copytree(STORIES, model)
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    return str(model)


def golden(folder):
    """The checkpoints that have the reference's logits, with a vocabulary of letters; none where they are not."""
    place = os.environ.get("MLXR_GOLDEN_DIR", ROOT.parent / "shared" / "golden-models")
    models = []
    for checkpoint in sorted(pathlib.Path(place).glob("*/config.json")):
        model = pathlib.Path(folder) / checkpoint.parent.name
        shutil.copytree(checkpoint.parent, model)
        (model / "tokenizer.json").write_text(json.dumps(letters()))
        (model / "chat_template.jinja").write_text(TEMPLATE)
        models.append(str(model))
    return models


def letters():
    """A tokenizer of 256 tokens: three special ones, those of ASCII, and others up to there."""
    # The letters that stand for bytes: those that can be seen for themselves, then one for each of the others.
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = [byte for byte in range(256) if byte not in seen]
    letter = {byte: chr(byte) for byte in seen}
    letter |= {byte: chr(256 + index) for index, byte in enumerate(unseen)}
    bytes_first_to_last = [9, 10, *range(0x20, 0x7F), *range(0x80, 0x100)]
    special = ["<pad>", "<s>", "</s>"]
    tokens = special + [letter[byte] for byte in bytes_first_to_last][: 256 - len(special)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for id, content in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [],
        },
    }
