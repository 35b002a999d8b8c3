#include "data/vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"
#include "data/tokenizer_pool.h"

#define N_BYTE 256
#define N_FIXED_SPECIAL 6  // <bos> <eos> <[> <:> <=> and the task marker
#define MOST_ANCHORS 65536
#define LONGEST_TASK_NAME 32
#define N_FIXED_BEFORE_TASK 5

// Its texts and their order are part of the format.
static const char *const fixed_texts[N_FIXED_BEFORE_TASK] = {"<bos>", "<eos>", "<[>", "<:>", "<=>"};

struct vocabulary {
  bool bytes;  // text tokens are bytes, not the characters of `alphabet`
  tokenizer *
      tokenizer;  // text tokens are its first n_text; its others are the special ones. NULL: characters or bytes
  tokenizer_pool *pool;
  char alphabet[N_BYTE + 1];
  char task[LONGEST_TASK_NAME + 1];
  int32_t n_text;
  int16_t id_of[N_BYTE];  // text token of a byte, -1 when there is none
  int32_t bos, task_marker;
  span_tokens span;
  uint64_t hash;
};

static ss_status finish(vocabulary **out, vocabulary *made, ss_error *error) {
  made->bos = made->n_text;
  made->span.eos = made->n_text + 1;
  made->span.open = made->n_text + 2;
  made->span.colon = made->n_text + 3;
  made->span.answer = made->n_text + 4;
  made->task_marker = made->n_text + 5;
  made->span.anchor_first = made->n_text + N_FIXED_SPECIAL;
  json_t *json = vocabulary_json(made);
  char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
  json_decref(json);
  if (text == NULL) {
    vocabulary_free(made);
    return ss_fail(error, SS_ERROR_MEMORY, "vocabulary: out of memory");
  }
  made->hash = XXH3_64bits(text, strlen(text));
  free(text);
  *out = made;
  return SS_OK;
}

static ss_status start(vocabulary **out, const char *task, int32_t n_anchor, ss_error *error) {
  size_t length = strlen(task);
  if (length == 0 || length > LONGEST_TASK_NAME)
    return ss_fail(error, SS_ERROR_INPUT, "vocabulary: a task name of %zu bytes, expected 1 to %d", length,
                   LONGEST_TASK_NAME);
  for (const char *at = task; *at != '\0'; at++)
    if (!((*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9') || *at == '_' || *at == '-'))
      return ss_fail(error, SS_ERROR_INPUT,
                     "vocabulary: task name \"%s\": expected lower-case letters, digits, _ and -", task);
  if (n_anchor < 1 || n_anchor > MOST_ANCHORS)
    return ss_fail(error, SS_ERROR_INPUT, "vocabulary: %d anchors, expected 1 to %d", n_anchor, MOST_ANCHORS);
  vocabulary *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "vocabulary", error));
  memcpy(made->task, task, length + 1);
  made->span.n_anchor = n_anchor;
  for (int byte = 0; byte < N_BYTE; byte++)
    made->id_of[byte] = -1;
  *out = made;
  return SS_OK;
}

ss_status vocabulary_create_characters(vocabulary **out, const char *alphabet, const char *task,
                                       int32_t n_anchor, ss_error *error) {
  vocabulary *made = NULL;
  SS_TRY(start(&made, task, n_anchor, error));
  for (const char *at = alphabet; *at != '\0'; at++) {
    unsigned char character = (unsigned char)*at;
    if (character < ' ' || character > '~' || made->id_of[character] >= 0) {
      free(made);
      return ss_fail(error, SS_ERROR_INPUT, "vocabulary: character %d of the alphabet is %s",
                     (int)(at - alphabet),
                     character < ' ' || character > '~' ? "not printable ASCII" : "there already");
    }
    made->alphabet[made->n_text] = *at;
    made->id_of[character] = (int16_t)made->n_text++;
  }
  if (made->n_text == 0) {
    free(made);
    return ss_fail(error, SS_ERROR_INPUT, "vocabulary: the alphabet is empty");
  }
  return finish(out, made, error);
}

ss_status vocabulary_create_bytes(vocabulary **out, const char *task, int32_t n_anchor, ss_error *error) {
  vocabulary *made = NULL;
  SS_TRY(start(&made, task, n_anchor, error));
  made->bytes = true;
  made->n_text = N_BYTE;
  for (int byte = 0; byte < N_BYTE; byte++)
    made->id_of[byte] = (int16_t)byte;
  return finish(out, made, error);
}

// --- over a tokenizer ---

// The text of special token k, from <bos> to the last anchor, in `room`.
static int special_text(const vocabulary *vocabulary, int32_t k, char room[VOCABULARY_TOKEN_ROOM]) {
  if (k < N_FIXED_BEFORE_TASK)
    return snprintf(room, VOCABULARY_TOKEN_ROOM, "%s", fixed_texts[k]);
  if (k == N_FIXED_BEFORE_TASK)
    return snprintf(room, VOCABULARY_TOKEN_ROOM, "<%s>", vocabulary->task);
  return snprintf(room, VOCABULARY_TOKEN_ROOM, "<#%d>", k - N_FIXED_SPECIAL);
}

static int32_t n_special(const vocabulary *vocabulary) {
  return N_FIXED_SPECIAL + vocabulary->span.n_anchor;
}

// True when the last tokens of `source` are the special ones, in order.
static bool ends_with_specials(const vocabulary *vocabulary, const tokenizer *source) {
  char text[VOCABULARY_TOKEN_ROOM];
  int32_t count = n_special(vocabulary), first = tokenizer_size(source) - count;
  for (int32_t k = 0; first > 0 && k < count; k++)
    if (tokenizer_special_find(source, text, special_text(vocabulary, k, text)) != first + k)
      return false;
  return first > 0;
}

static ss_status add_specials(vocabulary *vocabulary, ss_error *error) {
  char text[VOCABULARY_TOKEN_ROOM];
  for (int32_t k = 0; k < n_special(vocabulary); k++) {
    int n = special_text(vocabulary, k, text);
    int32_t id = -1;
    if (tokenizer_special_find(vocabulary->tokenizer, text, n) >= 0)
      return ss_fail(
          error, SS_ERROR_INPUT,
          "vocabulary: the tokenizer has a special token %s of its own, which task %s with %d anchors needs",
          text, vocabulary->task, vocabulary->span.n_anchor);
    SS_TRY(tokenizer_special_add(vocabulary->tokenizer, text, n, &id, error));
  }
  return SS_OK;
}

// From the description of a tokenizer, whose tokens are the text tokens.
static ss_status create_described(vocabulary **out, const json_t *json, const char *where, const char *task,
                                  int32_t n_anchor, ss_error *error) {
  vocabulary *made = NULL;
  SS_TRY(start(&made, task, n_anchor, error));
  int32_t added = 0;
  ss_status status = tokenizer_from_json(&made->tokenizer, json, where, error);
  if (status == SS_OK)
    status = tokenizer_add_bytes(made->tokenizer, &added, error);
  if (status == SS_OK) {
    made->n_text = tokenizer_size(made->tokenizer);
    status = add_specials(made, error);
  }
  if (status == SS_OK)
    status = tokenizer_pool_create(&made->pool, made->tokenizer, error);
  if (status != SS_OK) {
    vocabulary_free(made);
    return status;
  }
  return finish(out, made, error);
}

ss_status vocabulary_create_tokenizer(vocabulary **out, const tokenizer *source, const char *task,
                                      int32_t n_anchor, ss_error *error) {
  vocabulary *names = NULL;
  SS_TRY(start(&names, task, n_anchor, error));
  bool whole = ends_with_specials(names, source);
  int32_t n_text = tokenizer_size(source) - (whole ? n_special(names) : 0);
  vocabulary_free(names);
  json_t *json = tokenizer_json(source, n_text);
  if (json == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "vocabulary: out of memory");
  ss_status status = create_described(out, json, "vocabulary", task, n_anchor, error);
  json_decref(json);
  return status;
}

const tokenizer *vocabulary_tokenizer(const vocabulary *vocabulary) {
  return vocabulary->tokenizer;
}

void vocabulary_free(vocabulary *vocabulary) {
  if (vocabulary == NULL)
    return;
  tokenizer_pool_free(vocabulary->pool);
  tokenizer_free(vocabulary->tokenizer);
  free(vocabulary);
}

// --- as JSON ---

static json_t *describe(const vocabulary *vocabulary, json_t *tokenizer) {
  const char *kind = vocabulary->tokenizer != NULL ? "tokenizer" : vocabulary->bytes ? "bytes" : "characters";
  json_t *json = json_pack("{s:s, s:s, s:i}", "kind", kind, "task", vocabulary->task, "n_anchor",
                           (int)vocabulary->span.n_anchor);
  int failed = json == NULL;
  if (!failed && vocabulary->tokenizer != NULL)
    failed = json_object_set(json, "tokenizer", tokenizer);  // fails when it is NULL
  else if (!failed && !vocabulary->bytes)
    failed = json_object_set_new(json, "alphabet", json_string(vocabulary->alphabet));
  json_decref(tokenizer);
  if (failed == 0)
    return json;
  json_decref(json);
  return NULL;
}

json_t *vocabulary_json(const vocabulary *vocabulary) {
  return describe(vocabulary, vocabulary->tokenizer == NULL
                                  ? NULL
                                  : tokenizer_json(vocabulary->tokenizer, vocabulary->n_text));
}

json_t *vocabulary_summary_json(const vocabulary *vocabulary) {
  char hash[17];
  if (vocabulary->tokenizer == NULL)
    return vocabulary_json(vocabulary);
  snprintf(hash, sizeof hash, "%016llx", (unsigned long long)tokenizer_hash(vocabulary->tokenizer));
  return describe(vocabulary, json_pack("{s:i, s:s}", "tokens", vocabulary->n_text, "hash", hash));
}

ss_status vocabulary_from_json(vocabulary **out, const json_t *json, const char *where, ss_error *error) {
  const char *kind = json_string_value(json_object_get(json, "kind"));
  const char *task = json_string_value(json_object_get(json, "task"));
  const char *alphabet = json_string_value(json_object_get(json, "alphabet"));
  const json_t *n_anchor = json_object_get(json, "n_anchor");
  if (kind == NULL || task == NULL || !json_is_integer(n_anchor))
    return ss_fail(error, SS_ERROR_INPUT, "%s: vocabulary: expected an object with kind, task and n_anchor",
                   where);
  json_int_t anchors = json_integer_value(n_anchor);
  if (anchors < 1 || anchors > MOST_ANCHORS)
    return ss_fail(error, SS_ERROR_INPUT, "%s: vocabulary: n_anchor %lld, expected 1 to %d", where,
                   (long long)anchors, MOST_ANCHORS);
  ss_status status;
  if (strcmp(kind, "bytes") == 0)
    status = vocabulary_create_bytes(out, task, (int32_t)anchors, error);
  else if (strcmp(kind, "characters") == 0 && alphabet != NULL)
    status = vocabulary_create_characters(out, alphabet, task, (int32_t)anchors, error);
  else if (strcmp(kind, "tokenizer") == 0)
    return create_described(out, json_object_get(json, "tokenizer"), where, task, (int32_t)anchors, error);
  else
    return ss_fail(
        error, SS_ERROR_INPUT,
        "%s: vocabulary of kind \"%s\": expected \"bytes\", \"tokenizer\", or \"characters\" with an "
        "alphabet",
        where, kind);
  return status == SS_OK ? SS_OK : ss_error_context(error, "%s", where);
}

uint64_t vocabulary_hash(const vocabulary *vocabulary) {
  return vocabulary->hash;
}

int32_t vocabulary_size(const vocabulary *vocabulary) {
  return vocabulary->span.anchor_first + vocabulary->span.n_anchor;
}

int32_t vocabulary_n_text(const vocabulary *vocabulary) {
  return vocabulary->n_text;
}

const span_tokens *vocabulary_span_tokens(const vocabulary *vocabulary) {
  return &vocabulary->span;
}

int32_t vocabulary_bos(const vocabulary *vocabulary) {
  return vocabulary->bos;
}

int32_t vocabulary_task(const vocabulary *vocabulary) {
  return vocabulary->task_marker;
}

const char *vocabulary_task_name(const vocabulary *vocabulary) {
  return vocabulary->task;
}

ss_status vocabulary_encode(const vocabulary *vocabulary, const char *text, int64_t n, int32_t **ids,
                            int64_t *n_id, int64_t *capacity, const char *where, ss_error *error) {
  if (vocabulary->tokenizer != NULL) {
    tokenizer_scratch *scratch = NULL;
    SS_TRY(tokenizer_pool_take(vocabulary->pool, &scratch, error));
    ss_status status = tokenizer_encode(vocabulary->tokenizer, scratch, text, n,
                                        TOKENIZER_PLAIN | TOKENIZER_CONTINUES, ids, n_id, capacity, error);
    tokenizer_pool_give(vocabulary->pool, scratch);
    return status == SS_OK ? SS_OK : ss_error_context(error, "%s", where);
  }
  if (*n_id + n > *capacity)
    SS_TRY(ss_grow(ids, capacity, *n_id + n, sizeof **ids, "token ids", error));
  int32_t *write = *ids + *n_id;
  for (int64_t k = 0; k < n; k++) {
    unsigned char byte = (unsigned char)text[k];
    int32_t id = vocabulary->id_of[byte];
    if (id < 0 && byte > ' ' && byte <= '~')
      return ss_fail(error, SS_ERROR_INPUT, "%s: character '%c' at %lld is not in the vocabulary (%s)", where,
                     byte, (long long)k, vocabulary->alphabet);
    if (id < 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s: byte 0x%02x at %lld is not in the vocabulary (%s)", where,
                     byte, (long long)k, vocabulary->alphabet);
    write[k] = id;
  }
  *n_id += n;
  return SS_OK;
}

void vocabulary_token_text(const vocabulary *vocabulary, int32_t id, bool text_only,
                           char room[VOCABULARY_TOKEN_ROOM], const char **bytes, int64_t *n) {
  *bytes = room;
  *n = 0;
  if (id >= 0 && id < vocabulary->n_text && vocabulary->tokenizer != NULL) {
    if (!text_only || !tokenizer_is_special(vocabulary->tokenizer, id))
      tokenizer_token_bytes(vocabulary->tokenizer, id, bytes, n);
  } else if (id >= 0 && id < vocabulary->n_text) {
    room[0] = vocabulary->bytes ? (char)(unsigned char)id : vocabulary->alphabet[id];
    *n = 1;
  } else if (!text_only) {
    *n = id >= vocabulary->n_text && id < vocabulary_size(vocabulary)
             ? special_text(vocabulary, id - vocabulary->n_text, room)
             : snprintf(room, VOCABULARY_TOKEN_ROOM, "<?%d>", id);  // no such token: shown, not hidden
  }
}

ss_status vocabulary_decode(const vocabulary *vocabulary, const int32_t *ids, int64_t n, bool text_only,
                            char **out, ss_error *error) {
  char room[VOCABULARY_TOKEN_ROOM], *text = NULL;
  int64_t length = 0, capacity = 0;
  SS_TRY(ss_grow(&text, &capacity, n + 1, 1, "decoded text", error));
  for (int64_t k = 0; k < n; k++) {
    const char *bytes;
    int64_t count;
    vocabulary_token_text(vocabulary, ids[k], text_only, room, &bytes, &count);
    if (length + 3 * count + 1 > capacity) {
      ss_status status = ss_grow(&text, &capacity, length + 3 * count + 1, 1, "decoded text", error);
      if (status != SS_OK) {
        free(text);
        return status;
      }
    }
    for (int64_t b = 0; b < count; b++) {
      int64_t n_byte = bytes[b] == '\0' ? 3 : 1;
      memcpy(text + length, bytes[b] == '\0' ? "\xef\xbf\xbd" : bytes + b, (size_t)n_byte);
      length += n_byte;
    }
  }
  text[length] = '\0';
  *out = text;
  return SS_OK;
}
