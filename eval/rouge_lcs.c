// Longest common subsequences over tokens, 64 columns of the table at a time. A row of the table t[i][j] is kept as its
// horizontal differences, inverted: bit j - 1 is 0 where t[i][j] = t[i][j-1] + 1.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/rouge_private.h"

#define BLOCK 64
// Rows that fit are all kept; for more, every k-th is, and those between are computed again.
#define KEPT_WORDS (INT64_C(1) << 20)

static void mark(rouge_scorer *scorer, const int32_t *ids, int64_t n) {
  for (int64_t j = 0; j < n; j++)
    scorer->masks[ids[j]] |= UINT64_C(1) << j;
}

static void unmark(rouge_scorer *scorer, const int32_t *ids, int64_t n) {
  for (int64_t j = 0; j < n; j++)
    scorer->masks[ids[j]] = 0;
}

// The next row of a block: `row` plus its matches plus the carry of the block to its left, which it replaces.
static inline uint64_t advance(uint64_t row, uint64_t matches, uint8_t *carry) {
  uint64_t sum = row + (row & matches), total = sum + *carry;
  *carry = (uint8_t)((sum < row) | (total < sum));
  return total | (row & ~matches);
}

// The ids whose word the other text has too: the length of the subsequence does not depend on the rest.
static ss_status keep_shared(const rouge_scorer *scorer, const rouge_tokens *tokens, bool prediction,
                             int32_t **kept, int64_t *capacity, int64_t *n, ss_error *error) {
  SS_TRY(ss_grow(kept, capacity, tokens->count, sizeof **kept, "shared tokens", error));
  *n = 0;
  for (int64_t i = 0; i < tokens->count; i++) {
    const rouge_word *word = &scorer->words[tokens->ids[i]];
    if ((prediction ? word->in_reference : word->in_prediction) > 0)
      (*kept)[(*n)++] = tokens->ids[i];
  }
  return SS_OK;
}

ss_status rouge_lcs_length(rouge_scorer *scorer, int64_t *length, ss_error *error) {
  int64_t m, n;
  *length = 0;
  SS_TRY(keep_shared(scorer, &scorer->prediction, true, &scorer->left, &scorer->left_capacity, &m, error));
  SS_TRY(keep_shared(scorer, &scorer->reference, false, &scorer->right, &scorer->right_capacity, &n, error));
  const int32_t *columns = scorer->left, *rows = scorer->right;
  if ((m + BLOCK - 1) / BLOCK * n > (n + BLOCK - 1) / BLOCK * m) {
    const int32_t *other = columns;
    int64_t count = m;
    columns = rows, rows = other;
    m = n, n = count;
  }
  SS_TRY(ss_grow(&scorer->carries, &scorer->carry_capacity, n, 1, "carries", error));
  if (n > 0)
    memset(scorer->carries, 0, (size_t)n);
  for (int64_t first = 0; first < m; first += BLOCK) {
    int64_t width = m - first < BLOCK ? m - first : BLOCK;
    mark(scorer, columns + first, width);
    uint64_t row = ~UINT64_C(0);
    for (int64_t i = 0; i < n; i++)
      row = advance(row, scorer->masks[rows[i]], &scorer->carries[i]);
    unmark(scorer, columns + first, width);
    // Beyond the width all bits stay set.
    *length += __builtin_popcountll(~row);
  }
  return SS_OK;
}

// --- reading a subsequence back ---
//
// From the last cell: a match is taken and goes up and left; else left when t[i][j-1] > t[i-1][j]; else up. Without a
// match the row steps left exactly while its vertical difference v = t[i][j] - t[i-1][j] is 1, and v at j is what the
// last column up to j in which rows i and i-1 differ says (1 when row i has the step there).

// A sentence of the reference against one of the prediction: rows of words that the latter has, and its columns.
typedef struct {
  const int32_t *rows, *columns;
  int64_t n_row, n_column, n_block;
  const int64_t *positions;  // [n_row] the rows' places in the reference
  int64_t first, last;       // rows in the strip that scorer->rows holds: [n_block][last - first + 1]
  int64_t stride;
} sentence_pair;

// Walks back from (*i, *j) through the strip, noting the matches.
static void walk_back(rouge_scorer *scorer, const sentence_pair *pair, int64_t *i, int64_t *j) {
  while (*i > pair->first && *j > 0) {
    int32_t id = pair->rows[*i - 1];
    if (pair->columns[*j - 1] != id) {
      int64_t block = (*j - 1) / BLOCK;
      uint64_t until = ~UINT64_C(0) >> (BLOCK - 1 - (*j - 1) % BLOCK), differ;
      const uint64_t *row;
      for (;; block--, until = ~UINT64_C(0)) {
        row = scorer->rows + block * pair->stride + (*i - pair->first);
        differ = (row[0] ^ row[-1]) & until;
        if (differ != 0 || block == 0)
          break;
      }
      bool left = differ != 0 && (row[0] >> (BLOCK - 1 - __builtin_clzll(differ)) & 1) == 0;
      if (!left) {
        --*i;
        continue;
      }
      while (*j > 1 && pair->columns[*j - 1] != id)
        --*j;
    }
    scorer->united[pair->positions[*i - 1]] = 1;
    --*i;
    --*j;
  }
}

// Computes rows first..last from `start` [n_block], the row `first`. They are left in scorer->rows when `keep`;
// `end` (may be NULL) receives the last.
static void run_strip(rouge_scorer *scorer, sentence_pair *pair, const uint64_t *start, int64_t first,
                      int64_t last, bool keep, uint64_t *end) {
  int64_t n = last - first;
  pair->first = first;
  pair->last = last;
  pair->stride = n + 1;
  memset(scorer->carries, 0, (size_t)n);
  for (int64_t block = 0; block < pair->n_block; block++) {
    const int32_t *columns = pair->columns + block * BLOCK;
    int64_t width = pair->n_column - block * BLOCK < BLOCK ? pair->n_column - block * BLOCK : BLOCK;
    uint64_t row = start[block], *kept = scorer->rows + block * pair->stride;
    mark(scorer, columns, width);
    if (keep)
      kept[0] = row;
    for (int64_t i = 0; i < n; i++) {
      row = advance(row, scorer->masks[pair->rows[first + i]], &scorer->carries[i]);
      if (keep)
        kept[i + 1] = row;
    }
    unmark(scorer, columns, width);
    if (end != NULL)
      end[block] = row;
  }
}

static ss_status unite_long(rouge_scorer *scorer, sentence_pair *pair, ss_error *error) {
  int64_t strip = pair->n_row;
  if ((pair->n_row + 1) * pair->n_block > KEPT_WORDS)
    for (strip = 1; strip * strip < pair->n_row;)
      strip++;
  int64_t n_strip = (pair->n_row + strip - 1) / strip;
  SS_TRY(ss_grow(&scorer->rows, &scorer->row_capacity, (strip + 1) * pair->n_block, sizeof *scorer->rows,
                 "rows", error));
  SS_TRY(ss_grow(&scorer->checkpoints, &scorer->checkpoint_capacity, n_strip * pair->n_block,
                 sizeof *scorer->checkpoints, "rows", error));
  SS_TRY(ss_grow(&scorer->carries, &scorer->carry_capacity, strip, 1, "carries", error));
  memset(scorer->checkpoints, 0xFF, (size_t)pair->n_block * sizeof *scorer->checkpoints);
  for (int64_t s = 0; s + 1 < n_strip; s++)
    run_strip(scorer, pair, scorer->checkpoints + s * pair->n_block, s * strip, (s + 1) * strip, false,
              scorer->checkpoints + (s + 1) * pair->n_block);
  int64_t i = pair->n_row, j = pair->n_column;
  for (int64_t s = n_strip - 1; s >= 0 && j > 0; s--) {
    int64_t last = (s + 1) * strip < pair->n_row ? (s + 1) * strip : pair->n_row;
    run_strip(scorer, pair, scorer->checkpoints + s * pair->n_block, s * strip, last, true, NULL);
    walk_back(scorer, pair, &i, &j);
  }
  return SS_OK;
}

// One block of columns, whose masks are set already.
static ss_status unite_short(rouge_scorer *scorer, sentence_pair *pair, ss_error *error) {
  SS_TRY(ss_grow(&scorer->rows, &scorer->row_capacity, pair->n_row + 1, sizeof *scorer->rows, "rows", error));
  uint64_t row = ~UINT64_C(0);
  scorer->rows[0] = row;
  for (int64_t i = 0; i < pair->n_row; i++) {
    uint64_t matches = scorer->masks[pair->rows[i]];
    row = (row + (row & matches)) | (row & ~matches);
    scorer->rows[i + 1] = row;
  }
  pair->first = 0;
  pair->last = pair->n_row;
  pair->stride = pair->n_row + 1;
  int64_t i = pair->n_row, j = pair->n_column;
  walk_back(scorer, pair, &i, &j);
  return SS_OK;
}

// One sentence of the prediction against all of the reference's. `number` is the former's, from 1.
static ss_status unite(rouge_scorer *scorer, const int32_t *columns, int64_t n_column, int64_t number,
                       ss_error *error) {
  const rouge_tokens *reference = &scorer->reference;
  bool one_block = n_column <= BLOCK;
  ss_status status = SS_OK;
  if (one_block)
    mark(scorer, columns, n_column);
  for (int64_t j = 0; j < n_column && !one_block; j++)
    scorer->words[columns[j]].sentence = number;
  for (int64_t s = 0; s < reference->n_sentence && status == SS_OK; s++) {
    // A row without a match is equal to the one above, and the walk back always goes up from it; columns without
    // one may not be left out, because the walk tells them apart.
    sentence_pair pair = {scorer->right,     columns, 0, n_column, (n_column + BLOCK - 1) / BLOCK,
                          scorer->positions, 0,       0, 0};
    for (int64_t i = reference->sentences[s]; i < reference->sentences[s + 1]; i++) {
      int32_t id = reference->ids[i];
      if (one_block ? scorer->masks[id] == 0 : scorer->words[id].sentence != number)
        continue;
      scorer->right[pair.n_row] = id;
      scorer->positions[pair.n_row++] = i;
    }
    if (pair.n_row > 0)
      status = one_block ? unite_short(scorer, &pair, error) : unite_long(scorer, &pair, error);
  }
  if (one_block)
    unmark(scorer, columns, n_column);
  return status;
}

ss_status rouge_union_hits(rouge_scorer *scorer, int64_t *hits, ss_error *error) {
  const rouge_tokens *prediction = &scorer->prediction, *reference = &scorer->reference;
  *hits = 0;
  if (reference->count == 0)
    return SS_OK;
  SS_TRY(ss_grow(&scorer->united, &scorer->united_capacity, reference->count, 1, "union", error));
  SS_TRY(ss_grow(&scorer->right, &scorer->right_capacity, reference->count, sizeof *scorer->right, "rows",
                 error));
  SS_TRY(ss_grow(&scorer->positions, &scorer->position_capacity, reference->count, sizeof *scorer->positions,
                 "rows", error));
  memset(scorer->united, 0, (size_t)reference->count);
  for (int64_t k = 0; k < scorer->n_word; k++) {
    scorer->words[k].united = 0;
    scorer->words[k].sentence = 0;
  }
  for (int64_t s = 0; s < prediction->n_sentence; s++)
    SS_TRY(unite(scorer, prediction->ids + prediction->sentences[s],
                 prediction->sentences[s + 1] - prediction->sentences[s], s + 1, error));
  for (int64_t i = 0; i < reference->count; i++) {
    rouge_word *word = &scorer->words[reference->ids[i]];
    if (scorer->united[i] && word->united < word->in_prediction) {
      word->united++;
      ++*hits;
    }
  }
  return SS_OK;
}
