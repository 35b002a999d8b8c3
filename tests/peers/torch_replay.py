"""PyTorch peer of `selfspan bench decode --replay`: GPT-2 of the same shape, bf16, random weights, decodes streams of given
lengths with their tokens forced. B slots of a static KV cache [B, ROWS, H, D]; a step over all slots is compiled and one
CUDA graph; slots that are free are filled again by a prefill (a CUDA graph too) as soon as they make a full one, or a
sixteenth of them is free, as selfspan does. Each sequence attends to its own rows alone, by whichever of PyTorch's ways is
the fastest: SDPA under a mask of lengths, FlashAttention-2 with the rows used, FlexAttention over blocks. On the CPU (to try
the script) eager fp32.

usage: torch_replay.py LENGTHS.json N_LAYER N_EMBD N_HEAD VOCAB BATCH THREADS [cuda|cpu]
LENGTHS.json: {"prompt": [tokens, ...], "generated": [tokens, ...]}, a number a stream. Decodes all of them, or stops after
REPLAY_SECONDS (0: no limit): slots are then fuller than to the end, where they run empty, so that the report has no examples
a second, only tokens a second and how full the slots were. REPLAY_ATTENTION: only ways of attention whose name contains this
("SDPA": a static cache under a mask, as generation loops usually have it). Prints one JSON object on its last line.
"""
import json
import os
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

n_layer, n_embd, n_head, vocab, batch, threads = map(int, sys.argv[2:8])
device = sys.argv[8] if len(sys.argv) > 8 else "cuda"
cuda = device == "cuda"
dtype = torch.bfloat16 if cuda else torch.float32
head_dim = n_embd // n_head
scale = head_dim ** -0.5
most_seconds = float(os.environ.get("REPLAY_SECONDS") or 0) or float("inf")
block = 128  # rows of a block of FlexAttention
prefill_tokens = 8192 if cuda else 256
refill_part, look_every = 16, 64  # slots over those that are refilled together; steps between two looks at the clock
if threads > 0:
    torch.set_num_threads(threads)
torch.manual_seed(1)
torch.set_grad_enabled(False)

with open(sys.argv[1]) as file:
    lengths = json.load(file)
streams = list(zip(lengths["prompt"], lengths["generated"]))
if not streams or min(min(s) for s in streams) < 1:
    sys.exit(f"torch_replay.py: {sys.argv[1]}: expected prompts and generated parts of one token or more")
batch = min(batch, len(streams))
longest = max(p + g for p, g in streams)
rows = (longest + block - 1) // block * block
prompt_rows = (max(p for p, _ in streams) + 15) // 16 * 16
together = max(1, min(batch, prefill_tokens // prompt_rows))  # prompts of a prefill


def failed(name, error):
    print(f"torch_replay.py: {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", file=sys.stderr)


def wait():
    if cuda:
        torch.cuda.synchronize()


def captured(function):
    """The function as a CUDA graph, warmed up on a side stream as capture asks for; on the CPU itself."""
    if not cuda:
        return function
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    wait()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


# --- attention of one query a sequence over its rows [0, place]: q [B, H, D], k and v [B, ROWS, H, D], place [B] ---
def masked(q, k, v, place):
    mask = (torch.arange(rows, device=q.device) <= place[:, None])[:, None, None]
    return F.scaled_dot_product_attention(q[:, :, None], k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)[:, :, 0]


def flash(q, k, v, place):
    n = q.shape[0]
    starts = torch.arange(n + 1, device=q.device, dtype=torch.int32)
    used = (place + 1).to(torch.int32)
    return torch.ops.aten._flash_attention_forward(q, k.view(n * rows, n_head, head_dim), v.view(n * rows, n_head, head_dim),
                                                   starts, starts * rows, 1, rows, 0.0, False, False, scale=scale,
                                                   seqused_k=used)[0]


def flex(q, k, v, place):
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
    n = q.shape[0]
    numbers = (place // block + 1).to(torch.int32)[:, None, None]
    indices = torch.arange(rows // block, device=q.device, dtype=torch.int32).expand(n, 1, 1, rows // block).contiguous()
    mask = BlockMask.from_kv_blocks(numbers, indices, BLOCK_SIZE=(block, block), mask_mod=lambda b, h, i, j: j <= place[b],
                                    seq_lengths=(1, rows))
    return flex_attention(q[:, :, None], k.transpose(1, 2), v.transpose(1, 2), block_mask=mask)[:, :, 0]


# Name, function, what SDPA may use.
any_backend = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
ways = [("FlashAttention-2, rows used", flash, any_backend), ("SDPA cuDNN, mask", masked, [SDPBackend.CUDNN_ATTENTION]),
        ("SDPA memory-efficient, mask", masked, [SDPBackend.EFFICIENT_ATTENTION]), ("FlexAttention", flex, any_backend),
        ("SDPA math, mask", masked, [SDPBackend.MATH])]
if not cuda:
    ways = ways[3:]
ways = [way for way in ways if os.environ.get("REPLAY_ATTENTION", "") in way[0]]


def time_attention(way, backends, q, k, v, place, reference):
    run = torch.compile(way, dynamic=False) if cuda else way
    with sdpa_kernel(backends):
        out = run(q, k, v, place)[:len(reference)].float()
        difference = ((out - reference).square().sum() / reference.square().sum()).item()
        if not difference <= 1e-4:
            raise RuntimeError(f"wrong result, NMSE {difference:.3g}")
        replay = captured(lambda: run(q, k, v, place))
    seconds = []
    for _ in range(10):
        wait()
        start = time.perf_counter()
        replay()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def choose_attention(places):
    """Each way alone, compiled, over the rows of `places`: (seconds, name, function, backends), the fastest first."""
    q = torch.randn(batch, n_head, head_dim, device=device, dtype=dtype)
    k, v = (torch.randn(batch, rows, n_head, head_dim, device=device, dtype=dtype) for _ in range(2))
    place = torch.tensor(places, device=device)
    few = min(batch, 8)
    hidden = torch.arange(rows, device=device) > place[:few, None, None]
    scores = torch.einsum("bhd,brhd->bhr", q[:few].float(), k[:few].float()) * scale
    reference = torch.einsum("bhr,brhd->bhd", scores.masked_fill(hidden, float("-inf")).softmax(-1), v[:few].float())
    found = []
    for name, way, backends in ways:
        if found and cuda and "math" in name:
            continue  # scores in memory: only where nothing else serves
        try:
            torch.compiler.reset()
            found.append((time_attention(way, backends, q, k, v, place, reference), name, way, backends))
        except Exception as error:
            failed(name, error)
    return sorted(found, key=lambda way: way[0])


# --- the model ---
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.projection = nn.Linear(n_embd, n_embd)
        self.norm2 = nn.LayerNorm(n_embd)
        self.up = nn.Linear(n_embd, 4 * n_embd)
        self.down = nn.Linear(4 * n_embd, n_embd)
        self.register_buffer("k", torch.zeros(batch, rows, n_head, head_dim, dtype=dtype))
        self.register_buffer("v", torch.zeros(batch, rows, n_head, head_dim, dtype=dtype))

    def mlp(self, x):
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    def step(self, x, slots, place, attend):  # x [B, C]
        q, k, v = self.qkv(self.norm1(x)).view(batch, 3, n_head, head_dim).unbind(1)
        self.k.index_put_((slots, place), k)
        self.v.index_put_((slots, place), v)
        return self.mlp(x + self.projection(attend(q, self.k, self.v, place).reshape(batch, n_embd)))

    def prefill(self, x, slots):  # x [R, P, C]
        q, k, v = self.qkv(self.norm1(x)).view(*x.shape[:2], 3, n_head, head_dim).unbind(2)
        self.k[:, :prompt_rows].index_copy_(0, slots, k)
        self.v[:, :prompt_rows].index_copy_(0, slots, v)
        with sdpa_kernel(any_backend):
            y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        return self.mlp(x + self.projection(y.transpose(1, 2).reshape(x.shape)))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(vocab, n_embd)
        self.wpe = nn.Embedding(rows, n_embd)
        self.blocks = nn.ModuleList(Block() for _ in range(n_layer))
        self.norm = nn.LayerNorm(n_embd)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def step(self, tokens, slots, place, attend):
        x = self.wte(tokens) + self.wpe(place)
        for layer in self.blocks:
            x = layer.step(x, slots, place, attend)
        return self.norm(x) @ self.wte.weight.T

    def prefill(self, tokens, slots, last):
        x = self.wte(tokens) + self.wpe.weight[:prompt_rows]
        for layer in self.blocks:
            x = layer.prefill(x, slots)
        return self.norm(x[torch.arange(len(last), device=x.device), last]) @ self.wte.weight.T


class Replay:
    """Slots, and the two graphs over them. A stream's tokens lie on the device; the host knows when it ends."""

    def __init__(self, model, attend):
        def integers(*shape):
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self.all_slots = torch.arange(batch, device=device)
        self.text = torch.randint(vocab, (batch, rows), device=device)  # what is forced
        self.place, self.running = integers(batch), integers(batch)
        self.prompts, self.slots = torch.randint(vocab, (together, prompt_rows), device=device), integers(together)
        self.slots.copy_(torch.arange(together))
        self.last = integers(together)
        self.logits = torch.zeros(batch, vocab, dtype=dtype, device=device)
        self.first_logits = torch.zeros(together, vocab, dtype=dtype, device=device)
        step = torch.compile(lambda tokens, slots, place: model.step(tokens, slots, place, attend), dynamic=False,
                             fullgraph=True) if cuda else (lambda *a: model.step(*a, attend))

        def one_step():
            tokens = self.text.gather(1, self.place[:, None])[:, 0]
            self.logits.copy_(step(tokens, self.all_slots, self.place))
            self.place.add_(self.running).clamp_(max=rows - 1)

        def one_prefill():
            self.first_logits.copy_(model.prefill(self.prompts, self.slots, self.last))

        one_step()
        self.step = captured(one_step)
        self.prefill = captured(one_prefill)
        self.prefill()
        self.step()
        wait()

    def mark(self):
        if not cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def fill(self, free, waiting):
        """Prompts of the next streams into free slots; the rest of a prefill's places repeats the last one."""
        taken = [(slot, waiting.pop()) for slot in free[:len(waiting)]]
        idle = free[len(taken):]
        for at in range(0, len(taken), together):
            piece = taken[at:at + together]
            piece += piece[-1:] * (together - len(piece))
            slots = torch.tensor([slot for slot, _ in piece])
            ends = torch.tensor([prompt for _, (prompt, _) in piece])
            self.slots.copy_(slots, non_blocking=True)
            self.last.copy_(ends - 1, non_blocking=True)
            self.prompts.copy_(torch.randint(vocab, (together, prompt_rows)), non_blocking=True)
            self.prefill()
            self.place.index_copy_(0, self.slots, self.last + 1)
        self.running.fill_(1)
        if idle:
            at = torch.tensor(idle, device=device)
            self.running.index_fill_(0, at, 0)
            self.place.index_fill_(0, at, 0)
        return {slot: generated - 1 for slot, (_, generated) in taken}

    def run(self, wanted, most_seconds):
        """Decodes streams. Seconds in all and of prefills, tokens of steps, steps, streams that are done."""
        waiting, left, prefills = list(reversed(wanted)), {}, []
        tokens = steps = done = 0
        start = time.perf_counter()
        while True:
            ended = [slot for slot, n in left.items() if n == 0]
            # Without streams to come, what has ended is only stopped.
            n_free = len(ended) + (batch - len(left) if waiting else 0)
            every = n_free * refill_part >= batch or len(ended) == len(left)
            if n_free > 0 and (every or n_free >= together):
                free = [slot for slot in range(batch) if left.get(slot, 0) == 0]
                if waiting and not every:
                    free = free[:len(free) // together * together]
                for slot in free:
                    left.pop(slot, None)
                begin = self.mark()
                left.update(self.fill(free, waiting))
                prefills.append((begin, self.mark()))
            alive = sum(n > 0 for n in left.values())
            if alive == 0 and not waiting:
                break
            if alive > 0:
                self.step()
                steps += 1
                tokens += alive
                left = {slot: max(n - 1, 0) for slot, n in left.items()}
            if steps % look_every == 0:
                wait()
                if time.perf_counter() - start > most_seconds:
                    break
        wait()
        seconds = time.perf_counter() - start
        done = len(wanted) - len(waiting) - sum(n > 0 for n in left.values())
        prefill = sum(a.elapsed_time(b) * 1e-3 if cuda else b - a for a, b in prefills)
        return seconds, prefill, tokens, steps, done


def main():
    middles = [min(p + g // 2, rows - 1) for p, g in streams]
    found = choose_attention([middles[i % len(middles)] for i in range(batch)])
    if cuda:
        torch.cuda.empty_cache()
    with torch.device(device):
        model = GPT().to(dtype).eval()
    replay = None
    for _, name, way, backends in found:
        try:
            torch.compiler.reset()
            with sdpa_kernel(backends):
                replay = Replay(model, way)
            break
        except Exception as error:
            failed(f"step, {name}", error)
    if replay is None:
        sys.exit("torch_replay.py: no way of attention served the step")
    replay.run(streams[:batch], 1.0)
    seconds, prefill, tokens, steps, done = replay.run(streams, most_seconds)
    if not bool(torch.isfinite(replay.logits).all()):
        sys.exit("torch_replay.py: logits are not finite")
    how = "compile + CUDA graph" if cuda else "eager"
    kind = "bf16, " + torch.cuda.get_device_name() if cuda else f"fp32, {torch.get_num_threads()} threads"
    decode = seconds - prefill
    cut = f", cut at {done} examples" if done < len(streams) else ""
    report = {"engine": f"PyTorch {torch.__version__} {how}, {name}, {kind}{cut}", "examples": len(streams),
              "examples_done": done, "batch": batch, "tokens_per_second": tokens / decode,
              "seconds": seconds, "prefill_seconds": prefill, "decode_seconds": decode, "steps": steps,
              "generated_tokens": tokens + done, "slots_filled": tokens / (steps * batch), "cache_rows": rows,
              "attention_engines": [{"engine": n, "median_seconds": s} for s, n, _, _ in found]}
    if not cut:
        report["examples_per_second"] = done / seconds
        report["decode_examples_per_second"] = done / decode
    if cuda:
        report["peak_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(report))


main()
