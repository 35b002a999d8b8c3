#include "data/tasks/multihop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"
#include "common/random.h"

#define N_NAME MULTIHOP_MOST_PEOPLE
#define N_QUALITY 8  // and as many buildings
#define LONGEST_SENTENCE 64
#define ATTEMPTS_IN_SPLIT 1000   // a split has at least 1 in 16 of the questions
#define VALIDATION_SIXTEENTHS 1  // of all questions
#define TEST_SIXTEENTHS 2

const ss_key multihop_keys[] =
    {SS_CONFIG_TEXT(multihop_config, rows.path, "multihop.path", "",
                    "a file of rows as the jsonl task's, question first; empty: invented two-hop questions"),
     SS_CONFIG_CHOICE(multihop_config, rows.on_error, "multihop.on_error", "fail", "fail|skip",
                      "a broken row stops the import, or is counted, named and left out"),
     SS_CONFIG_TEXT(multihop_config, tokenizer, "multihop.tokenizer", "",
                    "a tokenizer.json, .gguf, vocab.bpe, tokenizer.bin or a folder with one; empty: bytes"),
     SS_CONFIG_INT(multihop_config, people_low, "multihop.people_low", "2", 1, MULTIHOP_MOST_PEOPLE,
                   "fewest people in an invented example; each has an object and is in a place"),
     SS_CONFIG_INT(multihop_config, people_high, "multihop.people_high", "4", 1, MULTIHOP_MOST_PEOPLE,
                   "most people"),
     SS_CONFIG_INT(multihop_config, names, "multihop.names", "16", 2, MULTIHOP_MOST_PEOPLE,
                   "different people, and objects, that examples are about; places: its square, 64 at most"),
     {0}};

typedef struct {
  multihop_config config;
  uint64_t seed;
  void *rows;  // the jsonl task's source; NULL: questions are invented
} multihop_state;

// --- invented questions ---

static const char *const people[N_NAME] = {"Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus",  "Hana",
                                           "Ivo", "Jon", "Kim",  "Leo", "Mia", "Nils", "Olga", "Pia"};
static const char *const objects[N_NAME] = {"axe", "bell", "coin", "drum", "egg", "fan", "globe", "horn",
                                            "ink", "jar",  "key",  "lamp", "map", "net", "oar",   "pen"};
static const char *const qualities[N_QUALITY] = {"big", "dark", "far", "low", "new", "old", "red", "tall"};
static const char *const buildings[N_QUALITY] = {"barn", "cave", "dock", "fort",
                                                 "gate", "hall", "inn",  "mill"};

// Who has what and is where; entry 0 is asked about.
typedef struct {
  int32_t person, object, quality, building;
} whereabouts;

// The split is a property of what is asked alone: no seed enters, so that sets of different seeds agree on it.
static data_split split_of(const whereabouts *asked) {
  uint64_t sixteenth = ss_hash64((uint64_t)asked->person, (uint64_t)asked->object,
                                 (uint64_t)(asked->quality * N_QUALITY + asked->building)) >>
                       60;
  return sixteenth < TEST_SIXTEENTHS                           ? DATA_TEST
         : sixteenth < TEST_SIXTEENTHS + VALIDATION_SIXTEENTHS ? DATA_VALIDATION
                                                               : DATA_TRAIN;
}

static void shuffle(int32_t *values, int32_t n, ss_random *random) {
  for (int32_t k = 0; k < n; k++)
    values[k] = k;
  for (int32_t k = n - 1; k > 0; k--) {
    int32_t other = (int32_t)ss_random_below(random, (uint64_t)k + 1), value = values[k];
    values[k] = values[other];
    values[other] = value;
  }
}

static void draw(whereabouts *all, int32_t n_name, ss_random *random) {
  int32_t person[N_NAME], object[N_NAME], place[N_QUALITY * N_QUALITY];
  int32_t n_quality = n_name < N_QUALITY ? n_name : N_QUALITY;
  shuffle(person, n_name, random);
  shuffle(object, n_name, random);
  shuffle(place, n_quality * n_quality, random);
  for (int32_t k = 0; k < n_name; k++)
    all[k] = (whereabouts){person[k], object[k], place[k] / n_quality, place[k] % n_quality};
}

static ss_status add(example *out, int32_t kind, ss_error *error, const char *format, const char *a,
                     const char *b, const char *c) {
  char text[LONGEST_SENTENCE];
  int n = snprintf(text, sizeof text, format, a, b, c);
  return example_segment_add(out, kind, text, n, error);
}

// The sentence of an entry: 0 says what the person has, 1 where they are.
static ss_status add_sentence(example *out, int32_t kind, const whereabouts *entry, int which,
                              ss_error *error) {
  const char *name = people[entry->person];
  return which == 0 ? add(out, kind, error, " %s has the %s.%s", name, objects[entry->object], "")
                    : add(out, kind, error, " %s is in the %s %s.", name, qualities[entry->quality],
                          buildings[entry->building]);
}

static ss_status write_example(const whereabouts *all, int32_t n_people, ss_random *random, example *out,
                               ss_error *error) {
  int32_t order[2 * N_NAME], support[2] = {0, 0}, step[2];
  const char *quality = qualities[all->quality], *building = buildings[all->building];
  char answer[LONGEST_SENTENCE], meta[64];
  shuffle(order, 2 * n_people, random);
  SS_TRY(add(out, SPAN_CONTEXT, error, "Where is the %s?%s%s", objects[all->object], "", ""));
  for (int32_t k = 0; k < 2 * n_people; k++) {
    if (order[k] < 2)
      support[order[k]] = (int32_t)out->n_segment;
    SS_TRY(add_sentence(out, SPAN_CONTEXT, &all[order[k] / 2], order[k] % 2, error));
  }
  for (int hop = 0; hop < 2; hop++) {
    step[hop] = (int32_t)out->n_segment;
    SS_TRY(add_sentence(out, SPAN_STEP, all, hop, error));
    SS_TRY(example_reference_add(out, support[hop], error));
    if (hop > 0)
      SS_TRY(example_reference_add(out, step[hop - 1], error));
  }
  SS_TRY(add(out, SPAN_ANSWER, error, " the %s %s%s", quality, building, ""));
  SS_TRY(example_reference_add(out, step[1], error));
  snprintf(answer, sizeof answer, "%s %s", quality, building);
  SS_TRY(example_answer_add(out, answer, error));
  snprintf(meta, sizeof meta, "{\"hops\":2,\"people\":%d}", n_people);
  return example_meta_set(out, meta, error);
}

static ss_status invent(const multihop_state *state, data_split split, int64_t index, example *out,
                        bool *skip, const char **reason, ss_error *error) {
  const multihop_config *config = &state->config;
  ss_random random = ss_random_seed(ss_hash64(state->seed, (uint64_t)split, 0), (uint64_t)index);
  int32_t n_people = (int32_t)ss_random_range(&random, config->people_low, config->people_high);
  whereabouts all[N_NAME];
  char id[48];
  *skip = false;
  snprintf(id, sizeof id, "%s-%lld", data_split_name(split), (long long)index);
  example_reset(out, id);
  for (int attempt = 0; attempt < ATTEMPTS_IN_SPLIT; attempt++) {
    draw(all, (int32_t)config->names, &random);
    if (split_of(&all[0]) == split)
      return write_example(all, n_people, &random, out, error);
  }
  *skip = true;
  *reason = "no question of this split was drawn";
  return SS_OK;
}

// --- the task ---

static void close_source(void *opaque) {
  multihop_state *state = opaque;
  if (state != NULL && state->rows != NULL)
    jsonl_task.close(state->rows);
  free(state);
}

static ss_status open_source(void **out, const void *config, uint64_t seed, const char *exclude,
                             const data_opening *how, ss_error *error) {
  multihop_state *state = NULL;
  SS_TRY(ss_allocate(&state, 1, sizeof *state, "multihop source", error));
  state->config = *(const multihop_config *)config;
  state->seed = seed;
  ss_status status = SS_OK;
  if (state->config.rows.path[0] != '\0')
    status = jsonl_task.open(&state->rows, &state->config.rows, seed, exclude, how, error);
  else if (exclude != NULL)
    status =
        ss_fail(error, SS_ERROR_USAGE,
                "--exclude: invented questions have splits of their own; it is for rows (multihop.path)");
  else if (state->config.people_high > state->config.names)
    status = ss_fail(error, SS_ERROR_USAGE, "multihop.people_high = %lld is above multihop.names = %lld",
                     (long long)state->config.people_high, (long long)state->config.names);
  else if (state->config.people_low > state->config.people_high)
    status = ss_fail(error, SS_ERROR_USAGE, "multihop.people_low = %lld is above multihop.people_high = %lld",
                     (long long)state->config.people_low, (long long)state->config.people_high);
  if (status != SS_OK)
    close_source(state);
  else
    *out = state;
  return status;
}

static ss_status make_vocabulary(void *opaque, int32_t n_anchor, vocabulary **out, ss_error *error) {
  const multihop_state *state = opaque;
  tokenizer *tokenizer = NULL;
  if (state->config.tokenizer[0] == '\0')
    return vocabulary_create_bytes(out, multihop_task.name, n_anchor, error);
  SS_TRY(tokenizer_open(&tokenizer, state->config.tokenizer, error));
  ss_status status = vocabulary_create_tokenizer(out, tokenizer, multihop_task.name, n_anchor, error);
  tokenizer_free(tokenizer);
  return status;
}

static int64_t count_examples(void *opaque, data_split split) {
  const multihop_state *state = opaque;
  return state->rows == NULL ? -1 : jsonl_task.count(state->rows, split);
}

static ss_status create_scratch(void *opaque, void **scratch, ss_error *error) {
  const multihop_state *state = opaque;
  return state->rows == NULL ? SS_OK : jsonl_task.scratch_create(state->rows, scratch, error);
}

static void free_scratch(void *scratch) {
  jsonl_task.scratch_free(scratch);
}

// What a row of this task has beyond the grammar's rules.
static const char *missing_part(const example *row) {
  int64_t n[3] = {0, 0, 0};
  for (int64_t s = 0; s < row->n_segment; s++)
    n[row->segments[s].kind]++;
  return n[SPAN_CONTEXT] < 2  ? "a question and a sentence as contexts"
         : n[SPAN_STEP] < 1   ? "a step"
         : n[SPAN_ANSWER] < 1 ? "an answer segment"
         : row->n_answer < 1  ? "an entry in \"answers\""
                              : NULL;
}

static ss_status make_example(void *opaque, void *scratch, data_split split, int64_t index, example *out,
                              bool *skip, const char **reason, ss_error *error) {
  const multihop_state *state = opaque;
  if (state->rows == NULL)
    return invent(state, split, index, out, skip, reason, error);
  SS_TRY(jsonl_task.example(state->rows, scratch, split, index, out, skip, reason, error));
  const char *missing = *skip ? NULL : missing_part(out);
  if (missing == NULL)
    return SS_OK;
  if (state->config.rows.on_error == JSONL_FAIL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s row %lld, id \"%s\", lacks %s", state->config.rows.path,
                   data_split_name(split), (long long)index, out->id, missing);
  *skip = true;
  *reason = "it lacks a question, a sentence, a step or an answer";
  return SS_OK;
}

static ss_status write_notes(void *opaque, char **out, ss_error *error) {
  const multihop_state *state = opaque;
  *out = NULL;
  return state->rows == NULL ? SS_OK : jsonl_task.notes(state->rows, out, error);
}

const data_task multihop_task = {
    .name = "multihop",
    .summary = "questions over sentences, one hop a step",
    .keys = multihop_keys,
    .config_size = sizeof(multihop_config),
    .open = open_source,
    .close = close_source,
    .vocabulary = make_vocabulary,
    .count = count_examples,
    .scratch_create = create_scratch,
    .scratch_free = free_scratch,
    .example = make_example,
    .notes = write_notes,
};
