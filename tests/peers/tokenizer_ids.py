"""Compares selfspan's token ids with tiktoken's (GPT-2's files), with those of Hugging Face's tokenizers (a tokenizer.json) or
transformers (a GGUF file; a vocabulary that selfspan writes into FOLDER), or with llama2.c's algorithm (a tokenizer.bin), on every
code point in several positions, on made-up strings and on the lines of text files; then times both on the files, three times in turn.

usage: tokenizer_ids.py TEST_TOKENIZER gpt2 VOCAB_BPE ENCODER_JSON [STRINGS [TEXT_FILE...]]
       tokenizer_ids.py TEST_TOKENIZER json|gguf|scores PATH [STRINGS [TEXT_FILE...]]
       tokenizer_ids.py TEST_TOKENIZER written PATH FOLDER [STRINGS [TEXT_FILE...]]
TEST_TOKENIZER is the built tests/test_tokenizer, STRINGS how many are made up (100000). TEXT_FILE is plain or .jsonl(.gz)
with the texts in the field "article". Exits 1 at a difference.
"""
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import time

SEED = 5
UNKNOWN = 2  # the flag under which selfspan treats bytes without a token as Hugging Face does
CONTINUES = 4  # the flag of texts that no space is put before
program, kind = sys.argv[1:3]
paths = sys.argv[3:5] if kind in ("gpt2", "written") else sys.argv[3:4]
flags = CONTINUES if kind == "written" else UNKNOWN
rest = sys.argv[3 + len(paths):]
n_made = int(rest[0]) if rest else 100000


def gpt2_encoding():
    import tiktoken
    printable = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    byte_of = {chr(b): b for b in printable}
    for k, b in enumerate(b for b in range(256) if b not in printable):
        byte_of[chr(256 + k)] = b
    ids = json.load(open(paths[1], encoding="utf-8"))
    special = {"<|endoftext|>": ids.pop("<|endoftext|>")}
    ranks = {bytes(byte_of[c] for c in token): id for token, id in ids.items()}
    # tiktoken writes GPT-2's pattern with possessive quantifiers; the pieces are the same.
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    encoding = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    return lambda text: encoding.encode(text, allowed_special="all")


def json_encoding():
    import tokenizers
    encoding = tokenizers.Tokenizer.from_file(paths[0])
    return lambda text: encoding.encode(text, add_special_tokens=False).ids


def transformers_encoding():
    import transformers
    if kind == "gguf":
        folder, name = os.path.split(os.path.abspath(paths[0]))
        made = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    else:
        selfspan([])  # writes the folder
        made = transformers.AutoTokenizer.from_pretrained(paths[1])
    encoding = made.backend_tokenizer
    return lambda text: encoding.encode(text, add_special_tokens=False).ids


def scores_encoding():
    """As llama2.c's run.c describes it: characters or their bytes, then the best-scoring pair, over and over."""
    data, at, texts, scores = open(paths[0], "rb").read(), 4, [], []
    while at < len(data):
        score, n = struct.unpack_from("<fi", data, at)
        texts.append(data[at + 8:at + 8 + n])
        scores.append(score)
        at += 8 + n
    ids = {text: id for id, text in enumerate(texts)}

    def encode(text):
        found = [ids[b" "]] if text else []
        for character in text:
            character = character.encode()
            found += [ids[character]] if character in ids else [byte + 3 for byte in character]
        while True:
            pairs = [ids.get(texts[a] + texts[b]) for a, b in zip(found, found[1:])]
            best = max((k for k in range(len(pairs)) if pairs[k] is not None), key=lambda k: (scores[pairs[k]], -k), default=None)
            if best is None:
                return found
            found[best:best + 2] = [pairs[best]]
    return encode


def selfspan(texts):
    data = b"".join(struct.pack("=I", len(b)) + b for b in (t.encode() for t in texts))
    run = subprocess.run([program, str(flags), kind, *paths], input=data, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    if run.returncode != 0:
        sys.exit(f"{program}: {run.stderr.decode()}")
    ids, at = [], 0
    while at < len(run.stdout):
        n, = struct.unpack_from("=I", run.stdout, at)
        ids.append(list(struct.unpack_from(f"={n}i", run.stdout, at + 4)))
        at += 4 + 4 * n
    return ids, float(run.stderr)


def code_points():
    """Each alone in every kind of position: at the ends, after and before each class, doubled."""
    for point in range(0x110000):
        if not 0xD800 <= point < 0xE000:
            c = chr(point)
            yield f"{c}\n{c}a{c}1{c}!{c} {c}  {c}{c} {c}'s{c}  a {c} 1  {c}"
            yield f"a{c}  {c}"


def made_up(random):
    blocks = [(0x20, 0x7F), (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00),
              (0x1680, 0x1681), (0x2000, 0x2070), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xE000, 0xE010),
              (0x10000, 0x11000), (0x1F300, 0x1FB00), (0x20000, 0x2A000), (0xE0000, 0xE01F0), (0x10FF00, 0x110000)]
    parts = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", " ", "  ", "   ", "\n", "\r\n", "\t", "\u00a0", "\u3000",
             "\u200b", "\u0085", "\u180e", "\ufeff", "\u2028", "\x1c", "\x00", "...", "--", "(CNN)", "the", " and", "Hello",
             "12", "3.14", "\u0663", "\u00bd", "\u2167", "e\u0301", "\u00e9", "\U0001F469\u200d\U0001F4BB", "\U0001F1EB\U0001F1F7",
             "<|endoftext|>", "<|endo", "<[>", "<:>", "<#0>", "<#23>", "<#", "aaaaaaaaaaaaaaaa", "http://", "\u65e5\u672c", "\u041f\u0440\u0438"]
    text = []
    for _ in range(random.randrange(1, 24)):
        draw = random.random()
        if draw < 0.5:
            text.append(random.choice(parts))
        elif draw < 0.9:
            low, high = random.choice(blocks)
            text.append("".join(chr(random.randrange(low, high)) for _ in range(random.randrange(1, 6))))
        else:
            point = random.randrange(0x110000 - 0x800)
            text.append(chr(point if point < 0xD800 else point + 0x800))
    return "".join(text)


def files():
    for path in rest[1:]:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="") as file:
            if ".jsonl" in path:
                yield from (json.loads(line)["article"] for line in file)
            else:
                yield file.read()


def compare(name, texts, reference):
    texts = list(texts)
    start = time.perf_counter()
    expected = [reference(text) for text in texts]
    theirs = time.perf_counter() - start
    got, ours = selfspan(texts)
    assert len(got) == len(texts)
    different = [k for k in range(len(texts)) if got[k] != expected[k]]
    print(f"{name}: {len(texts)} strings, {sum(map(len, expected))} ids, {len(different)} strings differ")
    for k in different[:10]:
        print(f"  {ascii(texts[k][:200])}\n    expected {expected[k][:40]}\n    got      {got[k][:40]}")
    return len(different), sum(len(text.encode()) for text in texts), theirs, ours


encodings = {"gpt2": gpt2_encoding, "json": json_encoding, "scores": scores_encoding}
reference = encodings.get(kind, transformers_encoding)()
failed = 0 if kind == "scores" else compare("code points", code_points(), reference)[0]
generator = random.Random(SEED)
failed += compare(f"made up (seed {SEED})", (made_up(generator) for _ in range(n_made)), reference)[0]
texts = list(files())
failed += compare("lines of the files", (line for text in texts for line in text.splitlines(True)), reference)[0]
# In turn, and the best of each: other programs may be running.
runs = [compare("files", texts if kind != "scores" else [], reference) for _ in range(3)]
failed += sum(run[0] for run in runs)
size, theirs, ours = runs[0][1], min(run[2] for run in runs), min(run[3] for run in runs)
if size:
    print(f"speed on one thread: {size / 1e6:.1f} MB, reference {size / theirs / 1e6:.1f} MB/s, "
          f"selfspan {size / ours / 1e6:.1f} MB/s, {theirs / ours:.1f} times")
sys.exit(failed > 0)
