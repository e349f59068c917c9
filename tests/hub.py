"""A stand-in for huggingface.co with tiny models of random weights, of the true structure of CLIP and SigLIP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
WORDS = ("a", "red", "blue", "dress", "coat", "of", "wool", "t", "shirt", "photo")
LENGTH, IMGSZ, DIMENSION = 12, 32, 24


class Hub(NamedTuple):
    endpoint: str
    asked: list[str]  # paths


@contextmanager
def serving(repositories: dict[str, Path], tags: tuple[str, ...] = ("license:mit",)) -> Iterator[Hub]:
    """The API that huggingface_hub asks for a repository's files, of folders; each has one commit."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(path)
            for name, folder in repositories.items():
                if path in (f"/api/models/{name}/revision/{one}" for one in ("main", COMMIT)):
                    files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                    about = {"_id": "1", "id": name, "sha": COMMIT, "siblings": files, "tags": list(tags)}
                    self.answer(json.dumps(about).encode(), "application/json")
                    return
                prefix = f"/{name}/resolve/{COMMIT}/"
                file = folder / path.removeprefix(prefix)
                if path.startswith(prefix) and file.is_file():
                    self.answer(file.read_bytes(), "application/octet-stream")
                    return
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()


def write_tokenizer(folder: Path) -> None:
    """Words as tokens, between a first and a last one, as CLIP's and SigLIP's are."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {token: number for number, token in enumerate(("[PAD]", "[UNK]", *WORDS, "[BOS]", "[EOS]"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[(token, vocabulary[token]) for token in ("[BOS]", "[EOS]")]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]", "bos_token": "[BOS]",
                "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH,
            }
        )
    )  # fmt: skip


VOCABULARY = len(WORDS) + 4


def write_clip(folder: Path) -> Any:
    """transformers' CLIPModel, as patrickjohncyh/fashion-clip is one."""
    import torch
    import transformers

    torch.manual_seed(0)
    text = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "eos_token_id": VOCABULARY - 1,
        "bos_token_id": VOCABULARY - 2, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": IMGSZ, "patch_size": 8,
    }  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIMENSION)
    model = transformers.CLIPModel(config).eval()
    randomised(model)
    folder.mkdir(parents=True)
    model.save_pretrained(folder, safe_serialization=True)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": IMGSZ}, crop_size={"height": IMGSZ, "width": IMGSZ}, image_mean=MEAN, image_std=STD
    )
    processor.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def write_siglip(folder: Path) -> Any:
    """transformers' SiglipModel."""
    import torch
    import transformers

    torch.manual_seed(1)
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**shared, "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "projection_size": 16}
    vision = {**shared, "image_size": IMGSZ, "patch_size": 8}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).eval()
    randomised(model)
    folder.mkdir(parents=True)
    model.save_pretrained(folder, safe_serialization=True)
    transformers.SiglipImageProcessorPil(size={"height": IMGSZ, "width": IMGSZ}).save_pretrained(folder)
    write_tokenizer(folder)
    return model


def write_open_clip(folder: Path, siglip: bool) -> Any:
    """open_clip's files: CLIP's own tower, or timm's of SigLIP as Marqo/marqo-fashionSigLIP has."""
    import open_clip
    import safetensors.torch
    import torch

    text: dict[str, Any] = {
        "context_length": LENGTH, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 2,
    }  # fmt: skip
    vision: dict[str, Any] = {"image_size": IMGSZ, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
    preprocess: dict[str, Any] = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    model_cfg: dict[str, Any] = {"embed_dim": DIMENSION, "vision_cfg": vision, "text_cfg": text}
    if siglip:
        vision = {
            "image_size": IMGSZ, "timm_model_name": tiny_siglip_of_timm(), "timm_model_pretrained": False,
            "timm_pool": "map", "timm_proj": "none",
        }  # fmt: skip
        text |= {
            "hf_tokenizer_name": "timm/none", "tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True,
            "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
        }  # fmt: skip
        preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
        model_cfg |= {"embed_dim": 16, "vision_cfg": vision, "custom_text": True, "init_logit_bias": -10}
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess}))
    torch.manual_seed(2)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    randomised(model)
    safetensors.torch.save_file(
        {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()},
        str(folder / "open_clip_model.safetensors"),
    )
    write_tokenizer(folder)
    return model


def tiny_siglip_of_timm() -> str:
    """The name of a vit_base_patch16_siglip_224 of two narrow layers, which timm knows from here on."""
    import timm

    def vit_tiny_siglip(pretrained: bool = False, **options: Any) -> Any:
        made = {"img_size": IMGSZ, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
        options = {key: value for key, value in options.items() if key in ("num_classes", "img_size")}
        return timm.models.VisionTransformer(**{**made, **options}, class_token=False, global_pool="map")

    timm.models.register_model(vit_tiny_siglip)
    return "vit_tiny_siglip"


def randomised(model: Any) -> None:
    """Weights so large that vectors differ: those of new towers hardly do."""
    import torch

    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 0:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
