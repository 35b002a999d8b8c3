// The cnndm task: summaries of news articles, after CNN/DailyMail (Hermann et al. 2015, arXiv 1506.03340; See et al.
// 2017, arXiv 1704.04368), from rows of any file that has an article and a summary whose sentences stand one a line.
//
//   context   an article sentence; all but the first begin with a blank (unless a very long word was cut), and together
//             they are the cleaned article
//   step      " " and a summary sentence; its references are the article sentences that the greedy oracle picks for it
//             (data/greedy_oracle.h; none where no sentence shares a word with it, whatever cnndm.least_references), and
//             the cnndm.previous_steps steps before it
//   end       there is no answer
//
// Sequences are cut to cnndm.context_tokens. cnndm.summary_tokens of them are kept free for the summary, whatever its
// length, so that what a model sees of an article does not depend on the summary that it is to write. Article sentences are
// left out from the end of the article, summary sentences from the end of the summary. The oracle picks among the
// sentences that stay. An example whose summary was cut has the whole of it in answers[0], a sentence a line.
//
// The metadata count what was found, and what was lost:
//   {"article": {"sentences", "tokens", "words", "lost_sentences", "lost_tokens"}, "summary": {the same},
//    "references": {"n", "lost", "sentences", "words", "rouge"},
//    "ngrams": [[distinct, novel] for n = 1..4], "cleaned": {rule: places}}
// sentences, tokens (of text, without anchors) and words (data/words.h) before the cut; references.lost: picks of the
// oracle on the whole article that were cut off; sentences and words: of the article's, those that are referenced;
// rouge: sum of the steps' ROUGE-1 F + ROUGE-2 F; novel: summary n-grams that the whole article does not have.
#ifndef SELFSPAN_DATA_TASKS_CNNDM_H
#define SELFSPAN_DATA_TASKS_CNNDM_H

#include "common/config.h"
#include "data/news_clean.h"
#include "data/task.h"

typedef enum { CNNDM_SKIP, CNNDM_FAIL } cnndm_on_error;

typedef struct {
  char paths[DATA_N_SPLIT][SS_CONFIG_STRING];  // of rows (data/rows.h); "" is no such split
  char article_field[SS_CONFIG_STRING], summary_field[SS_CONFIG_STRING], id_field[SS_CONFIG_STRING];
  int format;                        // rows_format
  int on_error;                      // cnndm_on_error: what a broken row does
  char clean[SS_CONFIG_STRING];      // rules of data/news_clean.h
  char tokenizer[SS_CONFIG_STRING];  // a path; "" is bytes
  int64_t context_tokens, summary_tokens, summary_sentences;
  int64_t references, least_references;         // article sentences of a step
  int64_t previous_steps;                       // that a step refers to besides
  int64_t shortest_sentence, longest_sentence;  // bytes
} cnndm_config;

extern const ss_key cnndm_keys[];  // "cnndm.*" over a cnndm_config
extern const data_task cnndm_task;

// --- annotating one article ---

// Buffers and settings; one thread at a time may use an annotator.
typedef struct cnndm_annotator cnndm_annotator;

// Copies the settings and borrows the vocabulary, which counts tokens and bounds the number of segments. Settings that make
// no sense are SS_ERROR_USAGE.
ss_status cnndm_annotator_create(cnndm_annotator **out, const cnndm_config *config,
                                 const vocabulary *vocabulary, ss_error *error);
// NULL is allowed.
void cnndm_annotator_free(cnndm_annotator *annotator);

// Cleans, splits and annotates an article (n_article bytes of UTF-8) with its summary into `out`. A NULL summary gives the
// context alone: the same prompt as with a summary, and of the metadata "article", without its words. *reason is NULL, or
// says why nothing came of it (a static string: no text, no article, nothing fits).
ss_status cnndm_annotate(cnndm_annotator *annotator, const char *id, const char *article, int64_t n_article,
                         const char *summary, int64_t n_summary, example *out, const char **reason,
                         ss_error *error);

// --- the card's statistics of a split, from the examples' metadata (data_task.tally_*) ---

ss_status cnndm_tally_create(void **tally, ss_error *error);
ss_status cnndm_tally_add(void *tally, const example *example, ss_error *error);
json_t *cnndm_tally_json(const void *tally);
void cnndm_tally_free(void *tally);

#endif
