// Scoring of multi-hop questions as HotpotQA does it (Yang et al. 2018, arXiv 1809.09600, hotpot_evaluate_v1.py), with
// answers compared as SQuAD's (Rajpurkar et al. 2016, arXiv 1606.05250): lower case, without ASCII punctuation and a, an,
// the; then exact match (`correct`; steps likewise), and F1 over words (`score`). Of several answers the best counts.
//
// Supporting facts are the context sentences that the headers reference: those of all steps and of the answer, as a
// set, against the gold's. Context 0 is the question and no fact. An output without headers (the dense arm) has none.

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/ucasemap.h>
#include <unicode/uchar.h>

#include "common/memory.h"
#include "eval/tasks/registry.h"

enum { F1, FACTS_EXACT, FACTS_F1, N_METRIC };
static const eval_metric metrics[] = {{"f1", "F1%", 100, 1, true},
                                      {"facts_exact", "facts exact%", 100, 1, false},
                                      {"facts_f1", "facts F1%", 100, 1, false}};

static double f1_of(int64_t common, int64_t n_written, int64_t n_gold) {
  return common > 0 ? 2.0 * (double)common / (double)(n_written + n_gold) : 0;
}

typedef struct {
  char *text, **list;
  int64_t n;
} words;

// The end of a text without the article that it may end in, as a run of word characters from `run` on.
static char *without_article(char *run, char *end) {
  *end = '\0';
  return strcmp(run, "a") == 0 || strcmp(run, "an") == 0 || strcmp(run, "the") == 0 ? run : end;
}

// The words of a text. \w and white space are Python's, so that an article beside a dash goes as it does there.
static ss_status cut_words(const char *text, int64_t n_text, words *out, ss_error *error) {
  UErrorCode code = U_ZERO_ERROR;
  int64_t most = 3 * n_text + 1;  // bytes in lower case; what is no UTF-8 stays as it is or becomes U+FFFD
  if (most > INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "a text of %lld bytes is too long to score", (long long)n_text);
  SS_TRY(ss_allocate(&out->text, 2 * most, 1, "words", error));
  SS_TRY(ss_allocate(&out->list, n_text / 2 + 1, sizeof *out->list, "words", error));
  char *lower = out->text + most, *end = out->text, *run = end, *rest = NULL;
  UCaseMap *map = ucasemap_open("", 0, &code);
  int32_t n = ucasemap_utf8ToLower(map, lower, (int32_t)most, text, (int32_t)n_text, &code);
  ucasemap_close(map);
  if (U_FAILURE(code))
    return ss_fail(error, SS_ERROR_INTERNAL, "no lower case of a text: %s", u_errorName(code));
  for (int32_t at = 0, first = 0, c = 0; at < n; first = at) {
    U8_NEXT_OR_FFFD(lower, at, n, c);
    if (c < 0x80 && ispunct(c))
      continue;
    bool in_word = (U_GET_GC_MASK(c) & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
    bool blank = u_isUWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
    char *kept = in_word ? end : without_article(run, end);
    if (blank || kept < end)
      *kept++ = ' ';
    for (end = kept; !blank && first < at; first++)
      *end++ = lower[first];
    run = in_word ? run : end;
  }
  *without_article(run, end) = '\0';
  for (char *word = strtok_r(out->text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
    out->list[out->n++] = word;
  return SS_OK;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

// A wrong yes or no has nothing in common with a text that contains the word.
static bool is_verdict(const words *text) {
  const char *word = text->n == 1 ? text->list[0] : "";
  return strcmp(word, "yes") == 0 || strcmp(word, "no") == 0 || strcmp(word, "noanswer") == 0;
}

static ss_status compare(const char *written, const char *gold, int64_t n_gold, bool *exact, double *f1,
                         ss_error *error) {
  words a = {NULL, NULL, 0}, b = {NULL, NULL, 0};
  int64_t equal = 0, common = 0;
  ss_status status = cut_words(written, (int64_t)strlen(written), &a, error);
  status = status == SS_OK ? cut_words(gold, n_gold, &b, error) : status;
  while (equal < a.n && equal < b.n && strcmp(a.list[equal], b.list[equal]) == 0)
    equal++;
  *exact = status == SS_OK && equal == a.n && equal == b.n;
  if (status == SS_OK && (*exact || !(is_verdict(&a) || is_verdict(&b)))) {
    qsort(a.list, (size_t)a.n, sizeof *a.list, by_text);
    qsort(b.list, (size_t)b.n, sizeof *b.list, by_text);
    for (int64_t i = 0, j = 0, order; i < a.n && j < b.n;
         common += order == 0, i += order <= 0, j += order >= 0)
      order = strcmp(a.list[i], b.list[j]);
  }
  *f1 = f1_of(common, a.n, b.n);
  free(a.text), free(a.list), free(b.text), free(b.list);
  return status;
}

static ss_status match_facts(const example *gold, const eval_output *output, double *metric,
                             ss_error *error) {
  int64_t n[4] = {0, 0, 0, 0};  // facts of neither, of the gold alone, of the output alone, of both
  uint8_t *facts = NULL;
  SS_TRY(ss_allocate(&facts, gold->n_segment, 1, "facts", error));
  for (int64_t k = 0; k < gold->n_reference; k++)
    facts[gold->references[k]] |= 1;
  for (int64_t k = 0; output->n_header > 0 && k < output->headers[output->n_header - 1].end; k++)
    if (output->references[k] >= 0 && output->references[k] < gold->n_segment)
      facts[output->references[k]] |= 2;
  for (int64_t k = 1; k < gold->n_segment && gold->segments[k].kind == SPAN_CONTEXT; k++)
    n[facts[k]]++;
  free(facts);
  metric[FACTS_EXACT] = n[1] + n[2] == 0;
  metric[FACTS_F1] = f1_of(n[3], n[2] + n[3], n[1] + n[3]);
  return SS_OK;
}

static ss_status score(const example *gold, const eval_output *output, eval_score *score, ss_error *error) {
  bool exact = false;
  double f1 = 0;
  if (gold->n_answer == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: a multihop example without an answer", gold->id);
  for (int64_t s = 0; s < gold->n_segment; s++) {
    const example_segment *segment = &gold->segments[s];
    if (segment->kind != SPAN_STEP || score->steps_gold++ >= output->n_step)
      continue;
    SS_TRY(compare(output->steps[score->steps_gold - 1], gold->text + segment->text_first,
                   segment->text_end - segment->text_first, &exact, &f1, error));
    score->steps_correct += exact;
  }
  const char *accepted = gold->answers;
  for (int32_t k = 0; output->answer != NULL && k < gold->n_answer; k++, accepted += strlen(accepted) + 1) {
    SS_TRY(compare(output->answer, accepted, (int64_t)strlen(accepted), &exact, &f1, error));
    score->correct = score->correct || exact;
    score->score = f1 > score->score ? f1 : score->score;
  }
  score->metrics[F1] = score->score;
  return output->has_headers ? match_facts(gold, output, score->metrics, error) : SS_OK;
}

static int32_t count_hops(const example *gold) {
  int32_t n = 0;
  for (int64_t s = 0; s < gold->n_segment; s++)
    n += gold->segments[s].kind == SPAN_STEP;
  return n;
}

const eval_task eval_task_multihop = {"multihop", score,    count_hops, "hops", "F1",
                                      metrics,    N_METRIC, false,      NULL,   0};
