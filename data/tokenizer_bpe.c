// Text -> ids and back: special tokens first, then pieces, then merges.
#include "data/tokenizer_private.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"
#include "common/utf8.h"

#define SHORT_PIECE 48  // bytes: up to here a scan for the lowest rank beats a heap
#define CACHED_BYTES 30
#define CACHED_IDS 8
#define CACHE_ENTRIES (1 << 13)

// A recent piece and its ids: one cache line.
typedef struct {
  uint8_t length, count;
  char bytes[CACHED_BYTES];
  int32_t ids[CACHED_IDS];
} cached_piece;

typedef struct {
  int32_t id, previous, next;  // neighbours' indices, -1 at the ends
} merge_node;

typedef struct {
  uint64_t key;  // rank << 32 | index of the left node: the lowest rank, the leftmost among equals
  int32_t left, right;
} merge_candidate;

struct tokenizer_scratch {
  const tokenizer *tokenizer;
  pcre2_match_data *match;
  cached_piece *cache;  // [CACHE_ENTRIES]
  merge_node *nodes;
  merge_candidate *heap;
  int64_t node_capacity, heap_capacity, n_heap;
};

ss_status tokenizer_scratch_create(tokenizer_scratch **out, const tokenizer *tokenizer, ss_error *error) {
  tokenizer_scratch *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "tokenizer's scratch", error));
  made->tokenizer = tokenizer;
  ss_status status = ss_allocate(&made->cache, CACHE_ENTRIES, sizeof *made->cache,
                                 "tokenizer's recent pieces", error);
  made->match = pcre2_match_data_create(2, NULL);
  if (status == SS_OK && made->match == NULL)
    status = ss_fail(error, SS_ERROR_MEMORY, "tokenizer's scratch: out of memory");
  if (status != SS_OK) {
    tokenizer_scratch_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

void tokenizer_scratch_free(tokenizer_scratch *scratch) {
  if (scratch == NULL)
    return;
  pcre2_match_data_free(scratch->match);
  free(scratch->cache);
  free(scratch->nodes);
  free(scratch->heap);
  free(scratch);
}

// --- merging one piece ---

// Ids of the bytes of `piece`, appended at `ids` (room for n); *lacks: a byte had no token.
static int64_t byte_ids(const tokenizer *tokenizer, const char *piece, int64_t n, int32_t *ids, bool *lacks) {
  int64_t count = 0;
  *lacks = false;
  for (int64_t k = 0; k < n; k++) {
    int32_t id = tokenizer->byte_id[(unsigned char)piece[k]];
    if (id < 0) {
      *lacks = true;
      id = tokenizer->unknown;
    }
    if (id >= 0)
      ids[count++] = id;
  }
  return count;
}

static int64_t merge_short(const tokenizer *tokenizer, int32_t *ids, int64_t count) {
  const tokenizer_merge *merges[SHORT_PIECE];  // of ids k and k + 1
  for (int64_t k = 0; k + 1 < count; k++)
    merges[k] = tokenizer_merge_find(tokenizer, ids[k], ids[k + 1]);
  for (;;) {
    int64_t best = -1;
    for (int64_t k = 0; k + 1 < count; k++)
      if (merges[k] != NULL && (best < 0 || merges[k]->rank < merges[best]->rank))
        best = k;
    if (best < 0)
      return count;
    ids[best] = merges[best]->id;
    count--;
    memmove(ids + best + 1, ids + best + 2, (size_t)(count - best - 1) * sizeof *ids);
    if (best + 1 < count)
      memmove(merges + best, merges + best + 1, (size_t)(count - best - 1) * sizeof *merges);
    if (best + 1 < count)
      merges[best] = tokenizer_merge_find(tokenizer, ids[best], ids[best + 1]);
    if (best > 0)
      merges[best - 1] = tokenizer_merge_find(tokenizer, ids[best - 1], ids[best]);
  }
}

static void sift_down(merge_candidate *heap, int64_t n, int64_t at) {
  merge_candidate moved = heap[at];
  for (;;) {
    int64_t child = 2 * at + 1;
    if (child >= n)
      break;
    if (child + 1 < n && heap[child + 1].key < heap[child].key)
      child++;
    if (moved.key <= heap[child].key)
      break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moved;
}

static void sift_up(merge_candidate *heap, int64_t at) {
  merge_candidate moved = heap[at];
  while (at > 0 && moved.key < heap[(at - 1) / 2].key) {
    heap[at] = heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  heap[at] = moved;
}

// Appends the candidate of node `at` and the one after it, if they merge. At most two a merge, which takes one out.
static bool append_candidate(tokenizer_scratch *scratch, int32_t at) {
  if (at < 0 || scratch->nodes[at].next < 0)
    return false;
  int32_t left = scratch->nodes[at].id, right = scratch->nodes[scratch->nodes[at].next].id;
  const tokenizer_merge *merge = tokenizer_merge_find(scratch->tokenizer, left, right);
  if (merge == NULL)
    return false;
  scratch->heap[scratch->n_heap++] = (merge_candidate){(uint64_t)(uint32_t)merge->rank << 32 | (uint32_t)at,
                                                       left, right};
  return true;
}

static void apply_candidate(tokenizer_scratch *scratch, merge_candidate candidate) {
  merge_node *nodes = scratch->nodes;
  int32_t at = (int32_t)(uint32_t)candidate.key, next = nodes[at].next;
  // What stands there may have changed since; a node that is gone has id -1.
  if (nodes[at].id != candidate.left || next < 0 || nodes[next].id != candidate.right)
    return;
  nodes[at].id = tokenizer_merge_find(scratch->tokenizer, candidate.left, candidate.right)->id;
  nodes[at].next = nodes[next].next;
  if (nodes[at].next >= 0)
    nodes[nodes[at].next].previous = at;
  nodes[next].id = -1;
  if (append_candidate(scratch, nodes[at].previous))
    sift_up(scratch->heap, scratch->n_heap - 1);
  if (append_candidate(scratch, at))
    sift_up(scratch->heap, scratch->n_heap - 1);
}

static ss_status merge_long(tokenizer_scratch *scratch, int32_t *ids, int64_t *count, ss_error *error) {
  int64_t n = *count;
  SS_TRY(ss_grow(&scratch->nodes, &scratch->node_capacity, n, sizeof *scratch->nodes, "tokenizer's nodes",
                 error));
  SS_TRY(ss_grow(&scratch->heap, &scratch->heap_capacity, 2 * n, sizeof *scratch->heap, "tokenizer's heap",
                 error));
  for (int64_t k = 0; k < n; k++)
    scratch->nodes[k] = (merge_node){ids[k], (int32_t)k - 1, k + 1 < n ? (int32_t)k + 1 : -1};
  scratch->n_heap = 0;
  for (int64_t k = 0; k < n; k++)
    append_candidate(scratch, (int32_t)k);
  for (int64_t k = scratch->n_heap / 2 - 1; k >= 0; k--)
    sift_down(scratch->heap, scratch->n_heap, k);
  while (scratch->n_heap > 0) {
    merge_candidate best = scratch->heap[0];
    scratch->heap[0] = scratch->heap[--scratch->n_heap];
    if (scratch->n_heap > 0)
      sift_down(scratch->heap, scratch->n_heap, 0);
    apply_candidate(scratch, best);
  }
  *count = 0;
  for (int32_t at = 0; at >= 0; at = scratch->nodes[at].next)
    ids[(*count)++] = scratch->nodes[at].id;
  return SS_OK;
}

static cached_piece *cache_line(const tokenizer_scratch *scratch, uint64_t hash) {
  return &scratch->cache[hash >> 32 & (CACHE_ENTRIES - 1)];
}

static void remember(cached_piece *line, const char *piece, int64_t n, const int32_t *ids, int64_t count) {
  if (line == NULL || count > CACHED_IDS)
    return;
  line->length = (uint8_t)n;
  line->count = (uint8_t)count;
  memcpy(line->bytes, piece, (size_t)n);
  memcpy(line->ids, ids, (size_t)count * sizeof *ids);
}

ss_status tokenizer_merge_piece(const tokenizer *tokenizer, tokenizer_scratch *scratch, const char *piece,
                                int64_t n, int flags, int32_t **ids, int64_t *n_id, int64_t *capacity,
                                ss_error *error) {
  if (*n_id + n > *capacity)
    SS_TRY(ss_grow(ids, capacity, *n_id + n, sizeof **ids, "token ids", error));
  int32_t *write = *ids + *n_id;
  bool lacks;
  int64_t count = byte_ids(tokenizer, piece, n, write, &lacks);
  if (lacks && (flags & TOKENIZER_UNKNOWN) == 0) {
    while (tokenizer->byte_id[(unsigned char)*piece] >= 0)
      piece++;
    return ss_fail(error, SS_ERROR_INPUT, "tokenizer: the vocabulary has no token for byte 0x%02x",
                   (unsigned char)*piece);
  }
  if (count <= SHORT_PIECE)
    count = merge_short(tokenizer, write, count);
  else
    SS_TRY(merge_long(scratch, write, &count, error));
  *n_id += count;
  return SS_OK;
}

// --- text ---

static ss_status encode_piece(const tokenizer *tokenizer, tokenizer_scratch *scratch, const char *piece,
                              int64_t n, int flags, int32_t **ids, int64_t *n_id, int64_t *capacity,
                              ss_error *error) {
  if (*n_id + CACHED_IDS > *capacity)
    SS_TRY(ss_grow(ids, capacity, *n_id + CACHED_IDS, sizeof **ids, "token ids", error));
  uint64_t hash = XXH3_64bits(piece, (size_t)n);
  cached_piece *line = n <= CACHED_BYTES ? cache_line(scratch, hash) : NULL;
  if (line != NULL && line->length == n && memcmp(line->bytes, piece, (size_t)n) == 0) {
    memcpy(*ids + *n_id, line->ids, sizeof line->ids);
    *n_id += line->count;
    return SS_OK;
  }
  int32_t whole = tokenizer_table_find_hashed(&tokenizer->ordinary, tokenizer, piece, n, (uint32_t)hash);
  if (whole >= 0) {
    (*ids)[(*n_id)++] = whole;
    remember(line, piece, n, &whole, 1);
    return SS_OK;
  }
  int64_t before = *n_id;
  SS_TRY(tokenizer_merge_piece(tokenizer, scratch, piece, n, flags, ids, n_id, capacity, error));
  // With a byte that has no token the answer depends on the flags.
  if ((flags & TOKENIZER_UNKNOWN) == 0)
    remember(line, piece, n, *ids + before, *n_id - before);
  return SS_OK;
}

// Text without special tokens.
static ss_status encode_text(const tokenizer *tokenizer, tokenizer_scratch *scratch, const char *text,
                             int64_t n, int flags, int32_t **ids, int64_t *n_id, int64_t *capacity,
                             int64_t *at, ss_error *error) {
  for (int64_t start = 0; start < n;) {
    int64_t valid = start + ss_utf8_length(text + start, n - start);
    for (int64_t piece = start; piece < valid;) {
      int64_t end;
      *at = piece;
      SS_TRY(tokenizer_split(tokenizer, scratch->match, text + start, valid - start, piece - start, &end,
                             error));
      end += start;
      SS_TRY(encode_piece(tokenizer, scratch, text + piece, end - piece, flags, ids, n_id, capacity, error));
      piece = end;
    }
    *at = start = valid;
    if (start < n) {
      SS_TRY(encode_piece(tokenizer, scratch, text + start, 1, flags, ids, n_id, capacity, error));
      start++;
    }
  }
  return SS_OK;
}

// Text without special tokens as llama2.c's run.c does it: characters (as it finds their ends) or their bytes, then merges.
static ss_status encode_scored(const tokenizer *tokenizer, tokenizer_scratch *scratch, const char *text,
                               int64_t n, bool prefix, int32_t **ids, int64_t *n_id, int64_t *capacity,
                               ss_error *error) {
  if (n == 0)
    return SS_OK;
  SS_TRY(ss_grow(ids, capacity, *n_id + n + 1, sizeof **ids, "token ids", error));
  int32_t *write = *ids + *n_id;
  int64_t count = 0;
  if (prefix)
    write[count++] = tokenizer->space;
  for (int64_t at = 0; at < n;) {
    int64_t end = at + 1;
    while (end < n && end - at < 4 && ((unsigned char)text[end] & 0xC0) == 0x80)
      end++;
    int32_t whole = tokenizer_table_find(&tokenizer->ordinary, tokenizer, text + at, end - at);
    if (whole >= 0)
      write[count++] = whole;
    for (; whole < 0 && at < end; at++)
      write[count++] = tokenizer->byte_id[(unsigned char)text[at]];
    at = end;
  }
  if (count <= SHORT_PIECE)
    count = merge_short(tokenizer, write, count);
  else
    SS_TRY(merge_long(scratch, write, &count, error));
  *n_id += count;
  return SS_OK;
}

// The special token that starts at `text`, the longest; -1 when none does.
static int32_t special_at(const tokenizer *tokenizer, const char *text, int64_t n) {
  for (int64_t k = 0; k < tokenizer->n_special_length; k++) {
    int64_t length = tokenizer->special_lengths[k];
    int32_t id = length > n ? -1 : tokenizer_special_find(tokenizer, text, length);
    if (id >= 0)
      return id;
  }
  return -1;
}

// Where the next special token starts, n when there is none; *id is it.
static int64_t next_special(const tokenizer *tokenizer, const char *text, int64_t n, int64_t at,
                            int32_t *id) {
  for (; at < n; at++) {
    if (tokenizer->special_only_first >= 0) {
      const char *found = memchr(text + at, tokenizer->special_only_first, (size_t)(n - at));
      if (found == NULL)
        return n;
      at = found - text;
    } else if (!tokenizer->special_first[(unsigned char)text[at]]) {
      continue;
    }
    *id = special_at(tokenizer, text + at, n - at);
    if (*id >= 0)
      return at;
  }
  return n;
}

ss_status tokenizer_encode(const tokenizer *tokenizer, tokenizer_scratch *scratch, const char *text,
                           int64_t n, int flags, int32_t **ids, int64_t *n_id, int64_t *capacity,
                           ss_error *error) {
  if (n < 0 || n > INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "tokenizer: a text of %lld bytes, expected at most %d",
                   (long long)n, INT32_MAX);
  if (scratch->tokenizer != tokenizer)
    return ss_fail(error, SS_ERROR_INTERNAL, "tokenizer: a scratch of another tokenizer");
  bool plain = (flags & TOKENIZER_PLAIN) != 0 || tokenizer->special.count == 0;
  int64_t before = *n_id;
  for (int64_t at = 0; at < n;) {
    int32_t special = -1;
    int64_t stop = plain ? n : next_special(tokenizer, text, n, at, &special), inside = 0;
    ss_status status = tokenizer->scores != NULL
                           ? encode_scored(tokenizer, scratch, text + at, stop - at,
                                           at == 0 && (flags & TOKENIZER_CONTINUES) == 0, ids, n_id, capacity,
                                           error)
                           : encode_text(tokenizer, scratch, text + at, stop - at, flags, ids, n_id, capacity,
                                         &inside, error);
    if (status == SS_OK && special >= 0)
      status = ss_grow(ids, capacity, *n_id + 1, sizeof **ids, "token ids", error);
    if (status != SS_OK) {
      *n_id = before;
      return ss_error_context(error, "text from byte %lld on", (long long)(at + inside));
    }
    at = stop;
    if (special >= 0) {
      (*ids)[(*n_id)++] = special;
      at += tokenizer->tokens[special].length;
    }
  }
  return SS_OK;
}

ss_status tokenizer_decode(const tokenizer *tokenizer, const int32_t *ids, int64_t n, int flags, char **out,
                           int64_t *size, ss_error *error) {
  int64_t total = 0;
  for (int64_t k = 0; k < n; k++) {
    if (ids[k] < 0 || ids[k] >= tokenizer->n_token)
      return ss_fail(error, SS_ERROR_INPUT, "tokenizer: id %d at %lld, expected 0 to %lld", ids[k],
                     (long long)k, (long long)tokenizer->n_token - 1);
    if ((flags & TOKENIZER_PLAIN) == 0 || !tokenizer->tokens[ids[k]].special)
      total += tokenizer->tokens[ids[k]].length;
  }
  char *text = NULL;
  SS_TRY(ss_allocate(&text, total + 1, 1, "decoded text", error));
  int64_t at = 0;
  for (int64_t k = 0; k < n; k++) {
    const tokenizer_token *token = &tokenizer->tokens[ids[k]];
    if ((flags & TOKENIZER_PLAIN) != 0 && token->special)
      continue;
    memcpy(text + at, tokenizer->bytes + token->start, (size_t)token->length);
    at += token->length;
  }
  // The space that encoding put there.
  bool prefixed = tokenizer->scores != NULL && (flags & TOKENIZER_CONTINUES) == 0 && n > 0 && ids[0] >= 0 &&
                  !tokenizer->tokens[ids[0]].special && total > 0 && text[0] == ' ';
  if (prefixed)
    memmove(text, text + 1, (size_t)--total);
  text[total] = '\0';
  *out = text;
  *size = total;
  return SS_OK;
}
