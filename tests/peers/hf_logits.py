"""Logits of imported models against Hugging Face's transformers, both ways, on the CPU in fp32.

    python hf_logits.py SELFSPAN TEST_IMPORT_LOGITS [--gguf FILE]

Without --gguf: random GPT-2 and Llama models of transformers are saved, imported, compared, exported, loaded again,
compared; GPT-2 from a GGUF file as well, where there is the package `gguf`. With it: the file's tensors, dequantised by
the package `gguf`, become a Llama of transformers, which is compared with the imported file and with what it is exported
as. Needs torch, transformers, safetensors and, for --gguf, gguf.
"""
import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
RELATIVE = 1e-5  # of the largest logit


def selfspan_logits(program, model, tokens, folder):
    """[n, V] of the model file `model`."""
    ids, out = os.path.join(folder, "tokens"), os.path.join(folder, "logits")
    tokens.astype("<i4").tofile(ids)
    environment = dict(os.environ, SELFSPAN_LOGITS=f"{model} {ids} {out}")
    subprocess.run([program], env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return np.fromfile(out, dtype="<f4").reshape(len(tokens), -1)


def peer_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens[None].astype(np.int64))).logits[0].float().numpy()


def compare(name, ours, theirs):
    difference = float(np.abs(ours - theirs).max())
    largest = float(np.abs(theirs).max())
    equal = ours.shape == theirs.shape and difference <= RELATIVE * largest
    same = float((ours.argmax(1) == theirs.argmax(1)).mean())
    print(f"{name}: largest difference {difference:.3g}, largest logit {largest:.4g}, arg-max equal {100 * same:.1f}%")
    if not equal:
        sys.exit(f"{name}: not equal")


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_tokenizer(folder, size):
    """A byte-level tokenizer of `size` tokens without merges, so that a random model has one."""
    letters = [c for c in range(256) if 33 <= c <= 126 or 161 <= c <= 172 or 174 <= c <= 255]
    others = [c for c in range(256) if c not in letters]
    vocabulary = {chr(c): i for i, c in enumerate(letters)}
    vocabulary.update({chr(256 + i): len(letters) + i for i in range(len(others))})
    added = [{"id": i, "content": f"<|{i}|>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for i in range(256, size)]
    tokenizer = {"version": "1.0", "added_tokens": added, "normalizer": None,
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                 "post_processor": None, "decoder": {"type": "ByteLevel"},
                 "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        json.dump(tokenizer, file)


def both_ways(name, arguments, model, size, source, folder):
    """model: of transformers; source: what selfspan imports, with `size` tokens."""
    rng = np.random.default_rng(7)
    tokens = rng.integers(0, size, min(96, arguments.positions))
    file, out = os.path.join(folder, "model.h5"), os.path.join(folder, "exported")
    run(arguments.selfspan, "import", "--from", source, "--out", file, "--anchors", "5", "--quiet", "--force")
    ours, theirs = selfspan_logits(arguments.program, file, tokens, folder), peer_logits(model, tokens)
    compare(f"{name}, imported", ours[:, :size], theirs[:, :size])
    for dtype in ("f32", "bf16"):
        run(arguments.selfspan, "export", "hf", "--model", file, "--out", out, "--dtype", dtype, "--quiet", "--force")
        exported = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
        if type(exported) is not type(model):
            sys.exit(f"{name}: exported as {type(exported).__name__}")
        every = rng.integers(0, ours.shape[1], len(tokens))  # new tokens too
        if dtype == "f32":
            compare(f"{name}, exported", selfspan_logits(arguments.program, file, every, folder),
                    peer_logits(exported, every))
        else:
            again = os.path.join(folder, "again.h5")
            if arguments.tokenizer_written(out):
                run(arguments.selfspan, "import", "--from", out, "--out", again, "--anchors", "5", "--quiet", "--force")
                compare(f"{name}, exported in bf16 and back", selfspan_logits(arguments.program, again, every, folder),
                        peer_logits(exported, every))


def write_gpt2_gguf(model, path):
    """A GPT-2 of transformers in llama.cpp's names; its linear layers stand [out, in] there."""
    import gguf

    names = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
             "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    top = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    config = model.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    for name, value in model.transformer.state_dict().items():
        parts = name.split(".")
        end = parts[-1]
        if parts[0] == "h":
            middle = ".".join(parts[2:-1])
            target = f"blk.{parts[1]}.{names[middle]}.{end}"
            value = value.T if "c_" in middle and end == "weight" else value
        else:
            target = f"{top[parts[0]]}.{end}"
        writer.add_tensor(target, value.contiguous().numpy().astype(np.float32))
    writer.add_tensor("output.weight", model.transformer.wte.weight.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gpt2_gguf(arguments, model, size, tokenizer, folder):
    path, file = os.path.join(folder, "gpt2.gguf"), os.path.join(folder, "gpt2.h5")
    write_gpt2_gguf(model, path)
    run(arguments.selfspan, "import", "--from", path, "--tokenizer", tokenizer, "--out", file, "--anchors", "5", "--quiet",
        "--force")
    tokens = np.random.default_rng(8).integers(0, size, 96)
    compare("random GPT-2, from GGUF", selfspan_logits(arguments.program, file, tokens, folder)[:, :size],
            peer_logits(model, tokens)[:, :size])


def random_models(arguments, folder):
    torch.manual_seed(3)
    size, positions = 300, 128
    arguments.positions = positions
    gpt2 = transformers.GPT2Config(vocab_size=size, n_embd=96, n_layer=3, n_head=4, n_positions=positions, n_inner=200,
                                   bos_token_id=256, eos_token_id=257, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0)
    llama = transformers.LlamaConfig(vocab_size=size, hidden_size=96, num_hidden_layers=3, num_attention_heads=6,
                                     num_key_value_heads=2, intermediate_size=160, max_position_embeddings=positions,
                                     tie_word_embeddings=True, rms_norm_eps=1e-5, bos_token_id=256, eos_token_id=257)
    for name, kind, config in (("random GPT-2", transformers.GPT2LMHeadModel, gpt2),
                               ("random Llama", transformers.LlamaForCausalLM, llama)):
        model = kind(config).eval()
        for parameter in model.parameters():  # biases and norms too, and scores that are far apart
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        for shards in ("5GB", "200KB"):
            source = os.path.join(folder, f"{kind.__name__}-{shards}")
            model.save_pretrained(source, max_shard_size=shards)
            write_tokenizer(source, size)
            both_ways(f"{name} ({'one file' if shards == '5GB' else 'several files'})", arguments, model, size, source,
                      folder)
        if kind is transformers.GPT2LMHeadModel and importlib.util.find_spec("gguf") is not None:
            gpt2_gguf(arguments, model, size, source, folder)


def gguf_llama(path):
    """A Llama of transformers with the file's dequantised weights, in llama.cpp's names and order of rotary rows."""
    import gguf

    reader = gguf.GGUFReader(path)
    key = lambda name: reader.fields[name].contents()
    heads, kv_heads = key("llama.attention.head_count"), key("llama.attention.head_count_kv")
    config = transformers.LlamaConfig(
        vocab_size=int([t for t in reader.tensors if t.name == "token_embd.weight"][0].shape[1]),
        hidden_size=key("llama.embedding_length"), num_hidden_layers=key("llama.block_count"),
        num_attention_heads=heads, num_key_value_heads=kv_heads, intermediate_size=key("llama.feed_forward_length"),
        max_position_embeddings=key("llama.context_length"), rope_theta=key("llama.rope.freq_base"),
        rope_parameters={"rope_type": "default", "rope_theta": key("llama.rope.freq_base")},
        rms_norm_eps=key("llama.attention.layer_norm_rms_epsilon"), tie_word_embeddings=True)
    names = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    weights = {}
    for tensor in reader.tensors:
        value = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        parts = tensor.name.split(".")
        if parts[0] != "blk":
            weights[{"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]] = value
            continue
        if parts[2] in ("attn_q", "attn_k"):
            n = heads if parts[2] == "attn_q" else kv_heads
            value = value.reshape(n, -1, 2, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        weights[f"model.layers.{parts[1]}.{names[parts[2]]}.weight"] = value
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    model = model.to_empty(device="cpu")
    missing = model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()}, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) - {"lm_head.weight"}:
        sys.exit(f"{path}: {missing}")
    model.tie_weights()
    # Buffers that the meta device left out.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval(), config.vocab_size


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("selfspan")
    parser.add_argument("program")
    parser.add_argument("--gguf")
    arguments = parser.parse_args()
    arguments.tokenizer_written = lambda out: os.path.exists(os.path.join(out, "tokenizer.json"))
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.gguf is None:
            random_models(arguments, folder)
        else:
            arguments.positions = 96
            model, size = gguf_llama(arguments.gguf)
            both_ways(os.path.basename(arguments.gguf), arguments, model, size, arguments.gguf, folder)


main()
