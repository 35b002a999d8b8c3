"""Writes the golden files tests/golden/*.h5 that tests/test_golden.c checks selfspan against.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install numpy h5py torch
    /tmp/golden/bin/python tests/golden/make_golden.py

Not run by `make test`: the files are committed. Each holds one small model (GPT-2 style or Llama style), two packed
annotated examples, a mask (dense causal or span), and what PyTorch computes in float64 from the float32 parameters:
loss, logits, every gradient, and ten AdamW steps with clipping. Nothing here is taken from selfspan's C code: the
visible set V(i) is the definition in docs/DESIGN.md written out row by row, the model is plain PyTorch, the
optimizer is torch.optim.AdamW.

Layout of a file (attributes format = "selfspan-golden", schema_version = 1):
    model                             JSON of the keys "model.*"
    policy                            JSON: mask, choose, pin, context
    preamble_end, prompt_end          [example] rows from the example's start
    anchor_offset                     [example]
    example_first                     [example + 1] batch rows
    tokens, targets, positions        int32 [n]
    visible                           uint8 [n, n]: row i reads row j
    views                             int32 [view, 6]: q_first, n_query, self_first, self_last, range_first, n_range
    ranges                            int32 [range, 2]
    parameters/, gradients/, final/   float32, by parameter name (gradients of the mean loss)
    loss, logits                      float64 [1], float32 [n, V]
    step_losses, step_norms           float64 [10]: before each step, norms before clipping
"""

import json
import pathlib

import h5py
import numpy
import torch
import torch.nn.functional as functional

FOLDER = pathlib.Path(__file__).parent
STEPS = 10
OPTIMIZER = dict(learning_rate=3e-3, beta1=0.9, beta2=0.95, epsilon=1e-5, weight_decay=0.1, clip=1.0)
# The epsilon is large so that gradients that are zero but for rounding (the bias of k) stay zero steps.

# --- the vocabulary: 20 text tokens, then the special ones --------------------------------------------

N_TEXT = 20
BOS, EOS, OPEN, COLON, ANSWER, TASK = range(N_TEXT, N_TEXT + 6)
ANCHOR = N_TEXT + 6
N_ANCHOR = 14
VOCABULARY = ANCHOR + N_ANCHOR

# --- annotated text -------------------------------------------------------------------------------------

# (kind, references, number of text tokens)
EXAMPLE_A = [("context", [], 5), ("context", [], 3), ("step", [0], 4), ("step", [1], 2), ("step", [0, 2], 3),
             ("step", [1, 3, 4], 2), ("answer", [5], 2)]
EXAMPLE_B = [("context", [], 2), ("step", [0], 3), ("step", [1], 2), ("answer", [1, 2], 1)]


def annotate(segments, offset, random):
    """Tokens of an example and its segments with rows."""
    tokens = [BOS, TASK]
    laid_out = []
    for number, (kind, references, length) in enumerate(segments):
        first = len(tokens)
        colon = None
        if kind != "context":
            tokens.append(OPEN)
            if kind == "answer":
                tokens.append(ANSWER)
            tokens += [ANCHOR + offset + reference for reference in references]
            colon = len(tokens)
            tokens.append(COLON)
        tokens += [int(token) for token in random.integers(0, N_TEXT, length)]
        anchor = None
        if kind == "answer":
            tokens.append(EOS)
        else:
            anchor = len(tokens)
            tokens.append(ANCHOR + offset + number)
        laid_out.append(dict(kind=kind, references=references, first=first, colon=colon, anchor=anchor,
                             end=len(tokens)))
    return tokens, laid_out


def visible_rows(segments, policy, row, preamble_end=2):
    """V(row), from the definition."""
    preamble = set(range(preamble_end))
    if policy["mask"] == "none":
        return set(range(row + 1))
    if row < preamble_end:
        return set(range(row + 1))
    number = next(k for k, segment in enumerate(segments) if segment["first"] <= row < segment["end"])
    own = segments[number]
    up_to_itself = set(range(own["first"], row + 1))

    def rows(segment):
        return set(range(segment["first"], segment["end"]))

    if own["kind"] == "context":
        if policy["context"] == "local":
            return preamble | up_to_itself
        return preamble | up_to_itself | {r for s in segments[:number] if s["kind"] == "context" for r in rows(s)}
    if row >= own["colon"]:
        return preamble | up_to_itself | {r for k in own["references"] for r in rows(segments[k])}
    earlier = segments[:number]
    index = set()
    referenced = {k for s in earlier if s["kind"] == "step" for k in s["references"]}
    for k, segment in enumerate(earlier):
        if policy["choose"] == "all" or (policy["pin"] and segment["kind"] == "context"):
            index |= rows(segment)
        if policy["choose"] == "open" and k in referenced:
            continue
        if policy["choose"] in ("index", "open") and segment["colon"] is not None:
            index |= set(range(segment["first"], segment["colon"] + 1))
        if segment["anchor"] is not None:
            index.add(segment["anchor"])
    steps = [segment for segment in earlier if segment["kind"] == "step"]
    if steps:
        index |= rows(steps[-1])
    return preamble | index | up_to_itself


def views_of(visible):
    """Groups consecutive rows that read the same ranges before a common first row."""
    views, ranges, previous = [], [], None
    for row in range(len(visible)):
        read = numpy.flatnonzero(visible[row])
        self_first = row
        while self_first > 0 and visible[row, self_first - 1]:
            self_first -= 1
        before = []
        for r in read[read < self_first]:
            if before and before[-1][1] == r:
                before[-1][1] = int(r) + 1
            else:
                before.append([int(r), int(r) + 1])
        key = (self_first, before)
        if key == previous and row > self_first:
            views[-1][1] += 1
        else:
            views.append([row, 1, self_first, row, len(ranges), len(before)])
            ranges += before
        previous = key
    return numpy.array(views, "int32"), numpy.array(ranges, "int32").reshape(-1, 2)


# --- the model -------------------------------------------------------------------------------------------

GPT2 = {"model.n_layer": 2, "model.n_head": 3, "model.n_kv_head": 3, "model.n_embd": 24, "model.n_ff": 96,
        "model.n_positions": 48, "model.vocab_size": VOCABULARY, "model.norm": "layer", "model.position": "learned",
        "model.activation": "gelu", "model.bias": True, "model.norm_epsilon": 1e-5, "model.rotary_theta": 10000.0,
        "model.init_std": 0.02}
LLAMA = dict(GPT2, **{"model.n_head": 4, "model.n_kv_head": 2, "model.n_embd": 32, "model.n_ff": 56,
                      "model.norm": "rms", "model.position": "rotary", "model.activation": "swiglu",
                      "model.bias": False})


def parameter_shapes(config):
    width, ff = config["model.n_embd"], config["model.n_ff"]
    head = width // config["model.n_head"]
    qkv = width + 2 * config["model.n_kv_head"] * head
    up = 2 * ff if config["model.activation"] == "swiglu" else ff
    bias = config["model.bias"]
    shapes = {"wte": (config["model.vocab_size"], width)}
    if config["model.position"] == "learned":
        shapes["wpe"] = (config["model.n_positions"], width)

    def norm(name):
        shapes[name + ".weight"] = (width,)
        if bias and config["model.norm"] == "layer":
            shapes[name + ".bias"] = (width,)

    def linear(name, rows, cols):
        shapes[name + ".weight"] = (rows, cols)
        if bias:
            shapes[name + ".bias"] = (rows,)

    for layer in range(config["model.n_layer"]):
        prefix = f"block.{layer}."
        norm(prefix + "norm1")
        linear(prefix + "attention.qkv", qkv, width)
        linear(prefix + "attention.proj", width, width)
        norm(prefix + "norm2")
        linear(prefix + "mlp.up", up, width)
        linear(prefix + "mlp.down", width, ff)
    norm("norm")
    return shapes


def initial_parameters(config, random):
    """Larger than a training run's, so that no gradient is negligible; norms and biases are not trivial."""
    parameters = {}
    for name, shape in parameter_shapes(config).items():
        values = random.normal(0.0, 0.15, shape)
        if "norm" in name and name.endswith("weight"):
            values += 1.0
        parameters[name] = values.astype("float32")
    return parameters


def rotate(x, positions, theta):
    """x [n, heads, head_dim]; pairs (d, d + head_dim / 2)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = positions[:, None, None].double() * frequency
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()], -1)


def forward(config, p, tokens, positions, visible):
    """Logits [n, V]; visible is a boolean [n, n]."""
    n_head, n_kv_head, width = config["model.n_head"], config["model.n_kv_head"], config["model.n_embd"]
    head, n = width // n_head, len(tokens)

    def norm(name, x):
        if config["model.norm"] == "layer":
            return functional.layer_norm(x, (width,), p[name + ".weight"], p.get(name + ".bias"),
                                         config["model.norm_epsilon"])
        return functional.rms_norm(x, (width,), p[name + ".weight"], config["model.norm_epsilon"])

    def linear(name, x):
        return functional.linear(x, p[name + ".weight"], p.get(name + ".bias"))

    x = p["wte"][tokens]
    if config["model.position"] == "learned":
        x = x + p["wpe"][positions]
    for layer in range(config["model.n_layer"]):
        prefix = f"block.{layer}."
        q, k, v = linear(prefix + "attention.qkv", norm(prefix + "norm1", x)).split(
            [width, n_kv_head * head, n_kv_head * head], -1)
        q, k, v = q.view(n, n_head, head), k.view(n, n_kv_head, head), v.view(n, n_kv_head, head)
        if config["model.position"] == "rotary":
            q = rotate(q, positions, config["model.rotary_theta"])
            k = rotate(k, positions, config["model.rotary_theta"])
        k, v = (t.repeat_interleave(n_head // n_kv_head, 1) for t in (k, v))
        attended = functional.scaled_dot_product_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1),
                                                           attn_mask=visible)
        x = x + linear(prefix + "attention.proj", attended.transpose(0, 1).reshape(n, width))
        up = linear(prefix + "mlp.up", norm(prefix + "norm2", x))
        if config["model.activation"] == "swiglu":
            gate, up = up.chunk(2, -1)
            up = functional.silu(gate) * up
        else:
            up = functional.gelu(up, approximate="tanh")
        x = x + linear(prefix + "mlp.down", up)
    return norm("norm", x) @ p["wte"].T


# --- one golden file ---------------------------------------------------------------------------------------


def make_batch(policy, random):
    """Two packed examples, each without its last token as input."""
    tokens, targets, positions, first, prompts = [], [], [], [0], []
    offsets = [2, 5]
    blocks = []
    for segments, offset in zip((EXAMPLE_A, EXAMPLE_B), offsets):
        text, laid_out = annotate(segments, offset, random)
        prompt_end = next(s["first"] for s in laid_out if s["kind"] != "context")
        tokens += text[:-1]
        targets += [text[i + 1] if i + 1 >= prompt_end else -1 for i in range(len(text) - 1)]
        positions += range(len(text) - 1)
        first.append(len(tokens))
        prompts.append(prompt_end)
        blocks.append([visible_rows(laid_out, policy, row) for row in range(len(text) - 1)])
    visible = numpy.zeros((len(tokens), len(tokens)), bool)
    for start, block in zip(first, blocks):
        for row, rows in enumerate(block):
            visible[start + row, [start + r for r in rows]] = True
    return tokens, targets, positions, first, prompts, offsets, visible


def make(name, config, policy, seed):
    random = numpy.random.default_rng(seed)
    tokens, targets, positions, first, prompts, offsets, visible = make_batch(policy, random)
    initial = initial_parameters(config, random)
    p = {key: torch.tensor(value, dtype=torch.float64, requires_grad=True) for key, value in initial.items()}
    inputs = [torch.tensor(tokens), torch.tensor(positions), torch.tensor(visible)]
    target = torch.tensor(targets)

    def loss_of():
        logits = forward(config, p, *inputs)
        return functional.cross_entropy(logits, target, ignore_index=-1), logits

    loss, logits = loss_of()
    loss.backward()
    gradients = {key: value.grad.numpy().astype("float32") for key, value in p.items()}

    decayed = [value for key, value in p.items() if value.dim() == 2 and key != "wpe"]
    others = [value for key, value in p.items() if value.dim() == 1 or key == "wpe"]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=OPTIMIZER["weight_decay"]),
                                   dict(params=others, weight_decay=0.0)], lr=OPTIMIZER["learning_rate"],
                                  betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]), eps=OPTIMIZER["epsilon"])
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        step_loss, _ = loss_of()
        step_loss.backward()
        norm = torch.sqrt(sum((value.grad ** 2).sum() for value in p.values()))
        if norm > OPTIMIZER["clip"]:
            for value in p.values():
                value.grad *= OPTIMIZER["clip"] / norm
        optimizer.step()
        losses.append(float(step_loss.detach()))
        norms.append(float(norm))
    assert norms[0] > OPTIMIZER["clip"], "the clipping would not be tested"

    views, ranges = views_of(visible)
    with h5py.File(FOLDER / f"{name}.h5", "w", libver=("v110", "v110"), track_order=False) as file:
        file.attrs["format"] = numpy.bytes_("selfspan-golden")
        file.attrs["schema_version"] = numpy.int64(1)
        file.attrs["model"] = numpy.bytes_(json.dumps(config))
        for key, value in policy.items():
            file.attrs["policy." + key] = numpy.bytes_(value) if isinstance(value, str) else numpy.int64(value)
        for key, value in OPTIMIZER.items():
            file.attrs[key] = numpy.float64(value)

        def put(key, values, kind):
            file.create_dataset(key, data=numpy.asarray(values).astype(kind), track_times=False)

        put("example_first", first, "int32")
        put("prompt_end", prompts, "int32")
        put("anchor_offset", offsets, "int32")
        put("tokens", tokens, "int32")
        put("targets", targets, "int32")
        put("positions", positions, "int32")
        put("visible", visible, "uint8")
        put("views", views, "int32")
        put("ranges", ranges, "int32")
        put("loss", [float(loss.detach())], "float64")
        put("logits", logits.detach().numpy(), "float32")
        put("step_losses", losses, "float64")
        put("step_norms", norms, "float64")
        for key in initial:
            put("parameters/" + key, initial[key], "float32")
            put("gradients/" + key, gradients[key], "float32")
            put("final/" + key, p[key].detach().numpy(), "float32")
    size = (FOLDER / f"{name}.h5").stat().st_size
    print(f"{name}: {len(tokens)} rows, {len(views)} views, {int(visible.sum())} pairs, loss {float(loss.detach()):.6f} -> "
          f"{losses[-1]:.6f}, norms {norms[0]:.3f} -> {norms[-1]:.3f}, {size} bytes")


if __name__ == "__main__":
    NONE = dict(mask="none", choose="index", pin=0, context="causal")
    make("gpt2_dense", GPT2, NONE, 1)
    make("gpt2_span", GPT2, dict(mask="span", choose="index", pin=0, context="causal"), 2)
    make("llama_dense", LLAMA, NONE, 3)
    make("llama_span", LLAMA, dict(mask="span", choose="open", pin=0, context="local"), 4)
