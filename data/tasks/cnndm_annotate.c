#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/greedy_oracle.h"
#include "data/novel_ngrams.h"
#include "data/sentences.h"
#include "data/tasks/cnndm.h"

#define PREAMBLE_TOKENS 2  // <bos> and the task marker
#define END_TOKENS 2       // <[> <eos>
#define STEP_TOKENS 3      // <[> <:> and the anchor; references come on top

// A text and where its pieces end: article sentences or summary lines, each with its blank in front.
typedef struct {
  news_text text;
  int64_t *ends;
  int64_t n, capacity;
} piece_list;

// What the metadata say of an article or a summary.
typedef struct {
  int64_t sentences, tokens, words, lost_sentences, lost_tokens;
} side;

struct cnndm_annotator {
  cnndm_config config;
  uint32_t rules;
  const vocabulary *vocabulary;
  sentence_splitter *splitter;
  greedy_oracle *oracle;
  ngram_counter *ngrams;
  news_text article, summary;  // cleaned
  piece_list sentences, lines;
  word_list line_words;
  int64_t *line_ends;  // [lines.n] in line_words
  int64_t line_capacity;
  bool *referenced;  // [sentences.n]
  int64_t referenced_capacity;
  int32_t *ids;  // tokens that are only counted
  int64_t n_id, id_capacity;
  news_counts cleaned;
  // Of the article at hand:
  side sides[2];
  int64_t n_reference, lost_references;
  double rouge;
};

ss_status cnndm_annotator_create(cnndm_annotator **out, const cnndm_config *config,
                                 const vocabulary *vocabulary, ss_error *error) {
  uint32_t rules = 0;
  ss_status status = news_rules_parse(config->clean, &rules, error);
  if (status != SS_OK)
    return ss_error_context(error, "cnndm.clean");
  if (config->context_tokens > 0 && config->summary_tokens + PREAMBLE_TOKENS >= config->context_tokens)
    return ss_fail(
        error, SS_ERROR_USAGE,
        "cnndm.summary_tokens is %lld, expected less than cnndm.context_tokens = %lld with room for an "
        "article",
        (long long)config->summary_tokens, (long long)config->context_tokens);
  if (config->longest_sentence > 0 && config->longest_sentence < 2 * config->shortest_sentence)
    return ss_fail(
        error, SS_ERROR_USAGE,
        "cnndm.longest_sentence is %lld, expected 0 or at least twice cnndm.shortest_sentence = %lld",
        (long long)config->longest_sentence, (long long)config->shortest_sentence);
  if (config->least_references > config->references)
    return ss_fail(error, SS_ERROR_USAGE,
                   "cnndm.least_references is %lld, expected at most cnndm.references = %lld",
                   (long long)config->least_references, (long long)config->references);
  int32_t n_anchor = vocabulary_span_tokens(vocabulary)->n_anchor;
  if (n_anchor < config->summary_sentences + 2)
    return ss_fail(error, SS_ERROR_USAGE,
                   "data.n_anchor is %d, expected more than cnndm.summary_sentences = %lld and the end",
                   n_anchor, (long long)config->summary_sentences);
  cnndm_annotator *annotator = NULL;
  SS_TRY(ss_allocate(&annotator, 1, sizeof *annotator, "annotator", error));
  annotator->config = *config;
  annotator->rules = rules;
  annotator->vocabulary = vocabulary;
  status = sentence_splitter_create(&annotator->splitter, error);
  if (status == SS_OK)
    status = greedy_oracle_create(&annotator->oracle, error);
  if (status == SS_OK)
    status = ngram_counter_create(&annotator->ngrams, error);
  if (status != SS_OK)
    cnndm_annotator_free(annotator);
  else
    *out = annotator;
  return status;
}

void cnndm_annotator_free(cnndm_annotator *annotator) {
  if (annotator == NULL)
    return;
  sentence_splitter_free(annotator->splitter);
  greedy_oracle_free(annotator->oracle);
  ngram_counter_free(annotator->ngrams);
  news_text_free(&annotator->article);
  news_text_free(&annotator->summary);
  news_text_free(&annotator->sentences.text);
  news_text_free(&annotator->lines.text);
  free(annotator->sentences.ends);
  free(annotator->lines.ends);
  free(annotator->line_words.ids);
  free(annotator->line_ends);
  free(annotator->referenced);
  free(annotator->ids);
  free(annotator);
}

// --- pieces ---

static bool is_blank(char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static inline int64_t first_of(const piece_list *list, int64_t k) {
  return k > 0 ? list->ends[k - 1] : 0;
}

static void empty(piece_list *list) {
  list->n = 0;
  list->text.n = 0;
}

// Appends a piece with every run of white space as one blank and one in front, except in front of the first
// unless `always_blank`. White space alone appends nothing.
static ss_status add_piece(piece_list *list, const char *bytes, int64_t n, bool always_blank,
                           ss_error *error) {
  news_text *text = &list->text;
  SS_TRY(ss_grow(&text->data, &text->capacity, text->n + n + 2, 1, "text", error));
  SS_TRY(ss_grow(&list->ends, &list->capacity, list->n + 1, sizeof *list->ends, "sentences", error));
  int64_t first = text->n;
  bool blank = list->n > 0 || always_blank;
  for (int64_t k = 0; k < n; k++) {
    if (is_blank(bytes[k])) {
      blank = blank || text->n > first;
      continue;
    }
    if (blank)
      text->data[text->n++] = ' ';
    blank = false;
    text->data[text->n++] = bytes[k];
  }
  text->data[text->n] = '\0';
  if (text->n > first)
    list->ends[list->n++] = text->n;
  return SS_OK;
}

// Joins sentences of fewer than `shortest` bytes to the one before, the first to the one behind, unless the result were
// longer than `longest`.
static void join_short(piece_list *list, int64_t shortest, int64_t longest) {
  int64_t kept = 0;
  for (int64_t k = 0; k < list->n; k++) {
    int64_t first = kept > 0 ? list->ends[kept - 1] : 0, end = list->ends[k];
    int64_t before = kept > 1 ? list->ends[kept - 2] : 0;
    bool short_one = end - first < shortest || (kept == 1 && first < shortest);
    if (kept > 0 && short_one && (longest == 0 || end - before <= longest))
      kept--;
    list->ends[kept++] = end;
  }
  list->n = kept;
}

// Where a sentence [first, end) that is too long is cut: behind the last mark that a blank follows, else before the last
// blank, in the second half of what is allowed; else within a word, at a character.
static int64_t cut_of(const char *text, int64_t first, int64_t longest) {
  int64_t blank = 0, cut = first + longest;
  for (int64_t k = cut; k > first + longest / 2; k--) {
    if (text[k] != ' ')
      continue;
    if (strchr(",;:", text[k - 1]) != NULL && text[k - 1] != '\0')
      return k;
    if (blank == 0)
      blank = k;
  }
  if (blank > 0)
    return blank;
  for (int64_t k = cut; k > cut - 4 && k > first + 1; k--)
    if (((unsigned char)text[k] & 0xC0) != 0x80)
      return k;
  return cut;
}

static ss_status split_long(piece_list *list, int64_t longest, ss_error *error) {
  if (longest == 0)
    return SS_OK;
  for (int64_t k = 0; k < list->n; k++) {
    int64_t first = first_of(list, k);
    if (list->ends[k] - first <= longest)
      continue;
    // One insertion moves all that follow; a sentence that needs many is the rare one, and often the only one.
    int64_t n_cut = 0, cut = first;
    for (int64_t at = first; list->ends[k] - at > longest; at = cut_of(list->text.data, at, longest))
      n_cut++;
    SS_TRY(ss_grow(&list->ends, &list->capacity, list->n + n_cut, sizeof *list->ends, "sentences", error));
    memmove(list->ends + k + n_cut, list->ends + k, (size_t)(list->n - k) * sizeof *list->ends);
    for (int64_t c = 0; c < n_cut; c++)
      list->ends[k + c] = cut = cut_of(list->text.data, cut, longest);
    list->n += n_cut;
    k += n_cut;
  }
  return SS_OK;
}

static ss_status split_article(cnndm_annotator *annotator, ss_error *error) {
  const news_text *article = &annotator->article;
  piece_list *list = &annotator->sentences;
  const int64_t *ends = NULL;
  int64_t n = 0;
  empty(list);
  SS_TRY(sentence_split(annotator->splitter, article->data, article->n, &ends, &n, error));
  for (int64_t k = 0; k < n; k++)
    SS_TRY(add_piece(list, article->data + (k > 0 ? ends[k - 1] : 0), ends[k] - (k > 0 ? ends[k - 1] : 0),
                     false, error));
  join_short(list, annotator->config.shortest_sentence, annotator->config.longest_sentence);
  return split_long(list, annotator->config.longest_sentence, error);
}

static ss_status split_summary(cnndm_annotator *annotator, ss_error *error) {
  const news_text *summary = &annotator->summary;
  empty(&annotator->lines);
  for (int64_t first = 0; first < summary->n;) {
    const char *newline = memchr(summary->data + first, '\n', (size_t)(summary->n - first));
    int64_t end = newline == NULL ? summary->n : newline - summary->data;
    SS_TRY(add_piece(&annotator->lines, summary->data + first, end - first, true, error));
    first = end + 1;
  }
  return SS_OK;
}

// --- tokens ---

static ss_status count_tokens(cnndm_annotator *annotator, const piece_list *list, int64_t k, const char *id,
                              int64_t *n, ss_error *error) {
  int64_t first = first_of(list, k);
  annotator->n_id = 0;
  SS_TRY(vocabulary_encode(annotator->vocabulary, list->text.data + first, list->ends[k] - first,
                           &annotator->ids, &annotator->n_id, &annotator->id_capacity, id, error));
  *n = annotator->n_id;
  return SS_OK;
}

// *kept = how many sentences, from the first on, fit in the tokens and the anchors.
static ss_status cut_article(cnndm_annotator *annotator, const char *id, int64_t *kept, ss_error *error) {
  const cnndm_config *config = &annotator->config;
  side *article = &annotator->sides[0];
  int64_t room = config->context_tokens > 0
                     ? config->context_tokens - config->summary_tokens - PREAMBLE_TOKENS
                     : INT64_MAX;
  int64_t most = vocabulary_span_tokens(annotator->vocabulary)->n_anchor - config->summary_sentences - 1;
  bool cut = false;
  *kept = 0;
  for (int64_t k = 0; k < annotator->sentences.n; k++) {
    int64_t n = 0;
    SS_TRY(count_tokens(annotator, &annotator->sentences, k, id, &n, error));
    article->tokens += n;
    cut = cut || k >= most || n + 1 > room;
    if (cut) {
      article->lost_tokens += n;
      continue;
    }
    room -= n + 1;
    ++*kept;
  }
  article->sentences = annotator->sentences.n;
  article->lost_sentences = annotator->sentences.n - *kept;
  return SS_OK;
}

// --- steps ---

static ss_status add_step(cnndm_annotator *annotator, int64_t line, int64_t kept, int64_t *room, bool *cut,
                          example *out, ss_error *error) {
  const piece_list *lines = &annotator->lines;
  const char *text = lines->text.data + first_of(lines, line);
  int64_t n = lines->ends[line] - first_of(lines, line), tokens = 0;
  int32_t most = (int32_t)annotator->config.references, n_picked = 0;
  int32_t least = (int32_t)annotator->config.least_references;
  int64_t n_step = out->n_segment - kept;
  int64_t before = n_step < annotator->config.previous_steps ? n_step : annotator->config.previous_steps;
  const int32_t *picked = NULL;
  double rouge = 0;
  SS_TRY(count_tokens(annotator, lines, line, out->id, &tokens, error));
  annotator->sides[1].tokens += tokens;
  *cut = *cut || line >= annotator->config.summary_sentences;
  if (!*cut)
    SS_TRY(
        greedy_oracle_pick(annotator->oracle, text, n, kept, least, most, &picked, &n_picked, &rouge, error));
  int64_t needed = STEP_TOKENS + n_picked + before + tokens;
  *cut = *cut || needed > *room;
  if (*cut) {
    annotator->sides[1].lost_sentences++;
    annotator->sides[1].lost_tokens += tokens;
    return SS_OK;
  }
  *room -= needed;
  SS_TRY(example_segment_add(out, SPAN_STEP, text, n, error));
  for (int32_t k = 0; k < n_picked; k++) {
    SS_TRY(example_reference_add(out, picked[k], error));
    annotator->referenced[picked[k]] = true;
  }
  for (int64_t k = before; k > 0; k--)
    SS_TRY(example_reference_add(out, (int32_t)(kept + n_step - k), error));
  annotator->n_reference += n_picked;
  annotator->rouge += rouge;
  if (kept == annotator->sentences.n)
    return SS_OK;
  // What the whole article would have offered.
  SS_TRY(greedy_oracle_pick(annotator->oracle, text, n, INT64_MAX, least, most, &picked, &n_picked, NULL,
                            error));
  for (int32_t k = 0; k < n_picked; k++)
    annotator->lost_references += picked[k] >= kept;
  return SS_OK;
}

static ss_status add_steps(cnndm_annotator *annotator, int64_t kept, example *out, ss_error *error) {
  const cnndm_config *config = &annotator->config;
  const piece_list *sentences = &annotator->sentences, *lines = &annotator->lines;
  int64_t room = config->context_tokens > 0 ? config->summary_tokens - END_TOKENS : INT64_MAX;
  bool cut = false;
  SS_TRY(greedy_oracle_source(annotator->oracle, sentences->text.data, sentences->ends, sentences->n, error));
  SS_TRY(ss_grow(&annotator->referenced, &annotator->referenced_capacity, sentences->n, sizeof(bool),
                 "references", error));
  memset(annotator->referenced, 0, (size_t)sentences->n * sizeof(bool));
  annotator->sides[1].sentences = lines->n;
  for (int64_t line = 0; line < lines->n; line++)
    SS_TRY(add_step(annotator, line, kept, &room, &cut, out, error));
  return SS_OK;
}

// The whole of a summary that was cut, for whoever scores.
static ss_status add_whole_summary(cnndm_annotator *annotator, example *out, ss_error *error) {
  const piece_list *lines = &annotator->lines;
  for (int64_t k = 1; k < lines->n; k++)
    lines->text.data[lines->ends[k - 1]] = '\n';  // instead of the blank in front
  return example_answer_add(out, lines->text.data + 1, error);
}

// --- metadata ---

static json_t *side_json(const side *side) {
  return json_pack("{s:I, s:I, s:I, s:I, s:I}", "sentences", (json_int_t)side->sentences, "tokens",
                   (json_int_t)side->tokens, "words", (json_int_t)side->words, "lost_sentences",
                   (json_int_t)side->lost_sentences, "lost_tokens", (json_int_t)side->lost_tokens);
}

static ss_status count_words(cnndm_annotator *annotator, int64_t kept, novel_ngrams *ngrams,
                             int64_t *sentences, int64_t *referenced_words, ss_error *error) {
  words *numbering = NULL;
  const piece_list *lines = &annotator->lines;
  const word_list *article = greedy_oracle_words(annotator->oracle, &numbering);
  annotator->line_words.n = 0;
  SS_TRY(ss_grow(&annotator->line_ends, &annotator->line_capacity, lines->n, sizeof(int64_t), "sentences",
                 error));
  for (int64_t k = 0; k < lines->n; k++) {
    SS_TRY(words_read(numbering, lines->text.data + first_of(lines, k), lines->ends[k] - first_of(lines, k),
                      &annotator->line_words, error));
    annotator->line_ends[k] = annotator->line_words.n;
  }
  annotator->sides[0].words = article->n;
  annotator->sides[1].words = annotator->line_words.n;
  for (int64_t k = 0; k < kept; k++)
    if (annotator->referenced[k]) {
      ++*sentences;
      *referenced_words += greedy_oracle_sentence_words(annotator->oracle, k);
    }
  return ngram_counter_count(annotator->ngrams, article, &annotator->line_words, annotator->line_ends,
                             lines->n, ngrams, error);
}

// Takes `meta`.
static ss_status put_meta(json_t *meta, example *out, ss_error *error) {
  char *text = meta == NULL ? NULL : json_dumps(meta, JSON_COMPACT | JSON_REAL_PRECISION(6));
  json_decref(meta);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "%s: metadata: out of memory", out->id);
  ss_status status = example_meta_set(out, text, error);
  free(text);
  return status;
}

static ss_status set_meta(cnndm_annotator *annotator, int64_t kept, example *out, ss_error *error) {
  novel_ngrams ngrams;
  int64_t sentences = 0, referenced_words = 0;
  SS_TRY(count_words(annotator, kept, &ngrams, &sentences, &referenced_words, error));
  json_t *cleaned = json_object(), *pairs = json_array();
  for (int rule = 0; rule < NEWS_N_RULE; rule++)
    if (annotator->cleaned.places[rule] > 0)
      json_object_set_new(cleaned, news_rule_name((news_rule)rule),
                          json_integer((json_int_t)annotator->cleaned.places[rule]));
  for (int n = 0; n < NOVEL_NGRAMS_LONGEST; n++)
    json_array_append_new(pairs,
                          json_pack("[II]", (json_int_t)ngrams.distinct[n], (json_int_t)ngrams.novel[n]));
  json_t *meta = json_pack("{s:o, s:o, s:{s:I, s:I, s:I, s:I, s:f}, s:o, s:o}", "article",
                           side_json(&annotator->sides[0]), "summary", side_json(&annotator->sides[1]),
                           "references", "n", (json_int_t)annotator->n_reference, "lost",
                           (json_int_t)annotator->lost_references, "sentences", (json_int_t)sentences,
                           "words", (json_int_t)referenced_words, "rouge", annotator->rouge, "ngrams", pairs,
                           "cleaned", cleaned);
  return put_meta(meta, out, error);
}

// --- an article ---

static ss_status add_contexts(const piece_list *list, int64_t kept, example *out, ss_error *error) {
  for (int64_t k = 0; k < kept; k++)
    SS_TRY(example_segment_add(out, SPAN_CONTEXT, list->text.data + first_of(list, k),
                               list->ends[k] - first_of(list, k), error));
  return SS_OK;
}

ss_status cnndm_annotate(cnndm_annotator *annotator, const char *id, const char *article, int64_t n_article,
                         const char *summary, int64_t n_summary, example *out, const char **reason,
                         ss_error *error) {
  bool drop = false;
  int64_t kept = 0;
  *reason = NULL;
  example_reset(out, id);
  memset(&annotator->cleaned, 0, sizeof annotator->cleaned);
  memset(annotator->sides, 0, sizeof annotator->sides);
  annotator->n_reference = annotator->lost_references = 0;
  annotator->rouge = 0;
  SS_TRY(news_text_set(&annotator->article, article, n_article, error));
  SS_TRY(news_clean_article(&annotator->article, annotator->rules, &annotator->cleaned, &drop, error));
  SS_TRY(split_article(annotator, error));
  if (summary != NULL) {
    SS_TRY(news_text_set(&annotator->summary, summary, n_summary, error));
    SS_TRY(news_clean_highlights(&annotator->summary, annotator->rules, &annotator->cleaned, error));
    SS_TRY(split_summary(annotator, error));
  }
  *reason = drop                                         ? "the page is no article"
            : annotator->sentences.n == 0                ? "no text is left of the article"
            : summary != NULL && annotator->lines.n == 0 ? "no text is left of the summary"
                                                         : NULL;
  if (*reason != NULL)
    return SS_OK;
  SS_TRY(cut_article(annotator, id, &kept, error));
  if (kept == 0) {
    *reason = "the article's first sentence does not fit in cnndm.context_tokens";
    return SS_OK;
  }
  SS_TRY(add_contexts(&annotator->sentences, kept, out, error));
  if (summary == NULL)
    return put_meta(json_pack("{s:o}", "article", side_json(&annotator->sides[0])), out, error);
  SS_TRY(add_steps(annotator, kept, out, error));
  if (out->n_segment == kept) {
    *reason = "the summary's first sentence does not fit in cnndm.summary_tokens";
    return SS_OK;
  }
  SS_TRY(set_meta(annotator, kept, out, error));
  if (annotator->sides[1].lost_sentences > 0)
    SS_TRY(add_whole_summary(annotator, out, error));
  return example_finish(out, error);
}
