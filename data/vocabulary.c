#include "data/vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"

#define N_BYTE 256
#define N_FIXED_SPECIAL 6  // <bos> <eos> <[> <:> <=> and the task marker
#define MOST_ANCHORS 65536
#define LONGEST_TASK_NAME 32
#define LONGEST_ANCHOR 16  // bytes of "<#65535>" and its terminator, rounded up

struct vocabulary {
  bool bytes;  // text tokens are bytes, not the characters of `alphabet`
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
    free(made);
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

void vocabulary_free(vocabulary *vocabulary) {
  free(vocabulary);
}

json_t *vocabulary_json(const vocabulary *vocabulary) {
  json_t *json = json_pack("{s:s, s:s, s:i}", "kind", vocabulary->bytes ? "bytes" : "characters", "task",
                           vocabulary->task, "n_anchor", (int)vocabulary->span.n_anchor);
  if (json != NULL && !vocabulary->bytes &&
      json_object_set_new(json, "alphabet", json_string(vocabulary->alphabet)) != 0) {
    json_decref(json);
    return NULL;
  }
  return json;
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
  else
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: vocabulary of kind \"%s\": expected \"bytes\", or \"characters\" with an alphabet",
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

// Bytes of one token's readable form, written to `out` (LONGEST_TASK_NAME + 3 bytes or more).
static int token_text(const vocabulary *vocabulary, int32_t id, bool text_only, char *out) {
  const span_tokens *span = &vocabulary->span;
  if (id >= 0 && id < vocabulary->n_text) {
    out[0] = vocabulary->bytes ? (char)(unsigned char)id : vocabulary->alphabet[id];
    return 1;
  }
  if (text_only)
    return 0;
  const char *fixed = id == span->open        ? "<[>"
                      : id == span->colon     ? "<:>"
                      : id == span->answer    ? "<=>"
                      : id == span->eos       ? "<eos>"
                      : id == vocabulary->bos ? "<bos>"
                                              : NULL;
  if (fixed != NULL)
    return sprintf(out, "%s", fixed);
  if (id == vocabulary->task_marker)
    return sprintf(out, "<%s>", vocabulary->task);
  if (span_is_anchor(span, id))
    return sprintf(out, "<#%d>", id - span->anchor_first);
  return sprintf(out, "<?%d>", id);  // no such token: shown, not hidden
}

ss_status vocabulary_decode(const vocabulary *vocabulary, const int32_t *ids, int64_t n, bool text_only,
                            char **out, ss_error *error) {
  char piece[LONGEST_TASK_NAME + LONGEST_ANCHOR];
  char *text = NULL;
  int64_t length = 0, capacity = 0;
  SS_TRY(ss_grow(&text, &capacity, n + 1, 1, "decoded text", error));
  for (int64_t k = 0; k < n; k++) {
    int bytes = token_text(vocabulary, ids[k], text_only, piece);
    if (length + bytes + 1 > capacity) {
      ss_status status = ss_grow(&text, &capacity, length + bytes + 1, 1, "decoded text", error);
      if (status != SS_OK) {
        free(text);
        return status;
      }
    }
    memcpy(text + length, piece, (size_t)bytes);
    length += bytes;
  }
  text[length] = '\0';
  *out = text;
  return SS_OK;
}
