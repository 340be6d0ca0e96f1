"""A small CLAP with random weights, saved as `transformers` saves one: about 2 MB, made in a second or two.

It is a real `ClapModel` with a real tokenizer as far as the code is concerned; only few and narrow layers. What it
says about a sound is noise, but the same noise every time.
"""

from __future__ import annotations

from pathlib import Path

_WORDS = ["This is a sound of a dog barking.", "a photo of the rain", "people talking, music and an engine", "a b c"]


def write_tiny_clap(folder: Path, seed: int = 0, *, fused: bool = False) -> Path:
    """Write model, feature extractor and tokenizer to a folder and return it.

    Args:
        folder: Made if need be; its name becomes the model's.
        seed: Of the random weights; equal seeds give equal weights.
        fused: Say that it fuses long sounds, as `laion/clap-htsat-fused` does.
    """
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    audio = {
        "patch_embeds_hidden_size": 32,
        "hidden_size": 64,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "enable_fusion": fused,
    }
    text = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 514,
        "pad_token_id": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=512)).eval()
    model.save_pretrained(folder)
    ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc", padding="repeatpad").save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(_WORDS, vocab_size=320, min_frequency=1, special_tokens=special, show_progress=False)
    tokenizer._tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = ["bos_token", "pad_token", "eos_token", "unk_token", "mask_token"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, model_max_length=512, **dict(zip(names, special, strict=True))
    ).save_pretrained(folder)
