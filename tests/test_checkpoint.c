// Checkpoints: what is written is read back bit for bit, the same content gives the same bytes, and whatever is not a
// whole checkpoint of this model is refused with the file and the field named.
#include "tests/gpt_fixture.h"
#include "tests/helpers.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/hdf5.h"
#include "model/checkpoint.h"

typedef struct {
  ss_device *device;
  gpt *model;
  float *first, *second;  // device
  checkpoint_meta meta;   // texts are literals
} scene;

static void scene_open(scene *scene, fixture_architecture architecture) {
  ss_error error = {0};
  assert_ok(ss_device_open(&scene->device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  scene->model = fixture_model(scene->device, architecture, true);
  int64_t count = gpt_n_parameter(scene->model);
  size_t bytes = (size_t)count * sizeof(float);
  float *host = malloc(bytes);
  assert_non_null(host);
  assert_int_equal(scene->device->ops->allocate(scene->device, (void **)&scene->first, bytes, "moments"),
                   SS_OK);
  assert_int_equal(scene->device->ops->allocate(scene->device, (void **)&scene->second, bytes, "moments"),
                   SS_OK);
  for (int64_t i = 0; i < count; ++i)
    host[i] = (float)i * 1e-7f;
  fixture_upload(scene->device, scene->first, host, count);
  for (int64_t i = 0; i < count; ++i)
    host[i] = 1.0f / (float)(i + 3);
  fixture_upload(scene->device, scene->second, host, count);
  free(host);
  scene->meta = checkpoint_meta_initial();
  scene->meta.vocabulary = "{\"characters\":\"0123456789\"}";
  scene->meta.policy = "{\"arm\":\"span\"}";
  scene->meta.config = "{\"train.steps\":10,\"name\":\"\\u00e9\"}";
  scene->meta.step = 17;
  scene->meta.examples_seen = 1234567890123;
  scene->meta.best_step = 9;
  scene->meta.best_validation_loss = 0.1;
  scene->meta.state = "reader\0position";
  scene->meta.n_state = 15;
}

static void scene_close(scene *scene) {
  scene->device->ops->release(scene->device, scene->first);
  scene->device->ops->release(scene->device, scene->second);
  gpt_free(scene->model);
  ss_device_close(scene->device);
}

static void scene_write(const scene *scene, const char *path) {
  ss_error error = {0};
  assert_ok(checkpoint_write(path, scene->model, scene->first, scene->second, &scene->meta, &error));
}

static void assert_same_floats(ss_device *device, const float *a, const float *b, int64_t count) {
  float *host_a = fixture_download(device, a, count), *host_b = fixture_download(device, b, count);
  assert_memory_equal(host_a, host_b, (size_t)count * sizeof(float));
  free(host_a);
  free(host_b);
}

static void assert_same_config(const gpt_config *a, const gpt_config *b) {
  gpt_config copies[] = {*a, *b};
  const ss_key_group group_a[] = {{gpt_config_keys, &copies[0]}, {NULL, NULL}};
  const ss_key_group group_b[] = {{gpt_config_keys, &copies[1]}, {NULL, NULL}};
  json_t *json_a = ss_config_json(group_a), *json_b = ss_config_json(group_b);
  assert_true(json_a && json_b && json_equal(json_a, json_b));
  json_decref(json_a);
  json_decref(json_b);
}

static void assert_same_files(const char *a, const char *b) {
  ss_error error = {0};
  char *bytes_a = NULL, *bytes_b = NULL;
  size_t size_a = 0, size_b = 0;
  assert_ok(ss_read_file(a, &bytes_a, &size_a, &error));
  assert_ok(ss_read_file(b, &bytes_b, &size_b, &error));
  assert_int_equal(size_a, size_b);
  assert_memory_equal(bytes_a, bytes_b, size_a);
  free(bytes_a);
  free(bytes_b);
}

// Files in a folder, "." and ".." aside.
static int count_files(const char *folder) {
  int count = -2;
  DIR *directory = opendir(folder);
  assert_non_null(directory);
  while (readdir(directory))
    ++count;
  closedir(directory);
  return count;
}

static void test_round_trip(void **state) {
  fixture_architecture architecture = *(fixture_architecture *)*state;
  ss_error error = {0};
  scene s;
  char path[TEST_PATH], again[TEST_PATH];
  scene_open(&s, architecture);
  test_path(path, "round.h5");
  scene_write(&s, path);
  gpt *model = NULL;
  checkpoint_meta meta;
  assert_ok(checkpoint_load_model(path, s.device, true, s.meta.vocabulary, &model, &meta, &error));
  int64_t count = gpt_n_parameter(s.model);
  assert_int_equal(gpt_n_parameter(model), count);
  assert_same_config(gpt_get_config(model), gpt_get_config(s.model));
  assert_same_floats(s.device, gpt_parameters(model), gpt_parameters(s.model), count);
  assert_string_equal(meta.vocabulary, s.meta.vocabulary);
  assert_string_equal(meta.policy, s.meta.policy);
  assert_string_equal(meta.config, s.meta.config);
  assert_int_equal(meta.step, 17);
  assert_int_equal(meta.examples_seen, 1234567890123);
  assert_int_equal(meta.best_step, 9);
  assert_true(meta.best_validation_loss == 0.1);
  assert_true(meta.has_moments);
  assert_int_equal(meta.n_state, 15);
  assert_memory_equal(meta.state, s.meta.state, 15);
  float *first = s.first, *second = s.second;
  size_t bytes = (size_t)count * sizeof(float);
  assert_int_equal(s.device->ops->allocate(s.device, (void **)&s.first, bytes, "moments"), SS_OK);
  assert_int_equal(s.device->ops->allocate(s.device, (void **)&s.second, bytes, "moments"), SS_OK);
  assert_ok(checkpoint_load_moments(path, model, s.first, s.second, &error));
  assert_same_floats(s.device, first, s.first, count);
  assert_same_floats(s.device, second, s.second, count);

  // What was read, written again, is the same file: nothing is lost and no time or path is in it.
  sleep(1);
  test_path(again, "another_name.h5");
  assert_ok(checkpoint_write(again, model, s.first, s.second, &meta, &error));
  assert_same_files(path, again);
  s.device->ops->release(s.device, first);
  s.device->ops->release(s.device, second);
  checkpoint_meta_free(&meta);
  gpt_free(model);
  scene_close(&s);
}

static void test_export(void **state) {
  (void)state;
  ss_error error = {0};
  scene s;
  char path[TEST_PATH];
  scene_open(&s, FIXTURE_LLAMA);
  test_path(path, "export.h5");
  checkpoint_meta bare = checkpoint_meta_initial(), meta;
  assert_ok(checkpoint_write(path, s.model, NULL, NULL, &bare, &error));
  assert_ok(checkpoint_read_meta(path, &meta, &error));
  assert_false(meta.has_moments);
  assert_null(meta.state);
  assert_string_equal(meta.vocabulary, "");
  assert_int_equal(meta.best_step, -1);
  assert_true(isinf(meta.best_validation_loss));
  assert_refused(checkpoint_load_moments(path, s.model, s.first, s.second, &error), SS_ERROR_INPUT,
                 "optimizer");
  gpt_config config = fixture_config(FIXTURE_LLAMA);
  gpt *model = NULL;
  assert_ok(gpt_create(&model, s.device, &config, false, &error));
  assert_ok(checkpoint_load_parameters(path, model, &error));
  assert_same_floats(s.device, gpt_parameters(model), gpt_parameters(s.model), gpt_n_parameter(model));
  checkpoint_meta_free(&meta);
  gpt_free(model);
  scene_close(&s);
}

// Not finite weights are stored as they are: judging them is the trainer's task.
static void test_every_bit_survives(void **state) {
  (void)state;
  ss_error error = {0};
  scene s;
  char path[TEST_PATH];
  scene_open(&s, FIXTURE_GPT2);
  float special[] = {NAN, INFINITY, -INFINITY, -0.0f, 1e-45f};
  fixture_upload(s.device, gpt_parameters(s.model), special, 5);
  test_path(path, "special.h5");
  scene_write(&s, path);
  gpt *model = NULL;
  assert_ok(checkpoint_load_model(path, s.device, false, NULL, &model, NULL, &error));
  assert_same_floats(s.device, gpt_parameters(model), gpt_parameters(s.model), gpt_n_parameter(model));
  assert_null(gpt_gradients(model));
  gpt_free(model);
  scene_close(&s);
}

static ss_status load(const scene *s, const char *path, ss_error *error) {
  gpt *model = NULL;
  ss_status status = checkpoint_load_model(path, s->device, false, NULL, &model, NULL, error);
  assert_true((status == SS_OK) == (model != NULL));
  gpt_free(model);
  return status;
}

// At most `limit` bytes; without fsync, which would dominate the tests' time.
static void copy_file(const char *from, const char *to, size_t limit) {
  ss_error error = {0};
  char *bytes = NULL;
  size_t size = 0;
  assert_ok(ss_read_file(from, &bytes, &size, &error));
  size = size < limit ? size : limit;
  FILE *file = fopen(to, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
  free(bytes);
}

// The sidecar that `path` would have.
static void write_hash(const char *path) {
  ss_error error = {0};
  char hash[33], sidecar[TEST_PATH + 8];
  assert_ok(ss_hash_file(path, hash, &error));
  snprintf(sidecar, sizeof sidecar, "%s.xxh128", path);
  FILE *file = fopen(sidecar, "w");
  assert_non_null(file);
  fprintf(file, "%s  %s\n", hash, strrchr(path, '/') + 1);
  assert_int_equal(fclose(file), 0);
}

static void test_damaged_files(void **state) {
  (void)state;
  ss_error error = {0};
  scene s;
  struct stat information;
  char path[TEST_PATH], broken[TEST_PATH], sidecar[TEST_PATH], broken_sidecar[TEST_PATH];
  scene_open(&s, FIXTURE_GPT2);
  test_path(path, "whole.h5");
  test_path(sidecar, "whole.h5.xxh128");
  test_path(broken, "broken.h5");
  test_path(broken_sidecar, "broken.h5.xxh128");
  scene_write(&s, path);
  assert_int_equal(stat(path, &information), 0);
  // truncated, at many lengths
  for (long keep = 0; keep < information.st_size; keep += 1 + information.st_size / 40) {
    copy_file(path, broken, (size_t)keep);
    copy_file(sidecar, broken_sidecar, SIZE_MAX);
    assert_refused(load(&s, broken, &error), SS_ERROR_INPUT, "broken.h5");
  }
  // one bit flipped, at many places
  for (long byte = 0; byte < information.st_size; byte += 1 + information.st_size / 200) {
    copy_file(path, broken, SIZE_MAX);
    test_flip_bit(broken, byte, (int)(byte % 8));
    assert_refused(load(&s, broken, &error), SS_ERROR_INPUT, "broken.h5");
  }
  // even when the sidecar was made for the damaged file, nothing crashes
  for (long byte = 0; byte < information.st_size; byte += 1 + information.st_size / 400) {
    copy_file(path, broken, SIZE_MAX);
    test_flip_bit(broken, byte, (int)(byte % 8));
    write_hash(broken);
    load(&s, broken, &error);
    ss_error_clear(&error);
  }
  copy_file(path, broken, SIZE_MAX);
  unlink(broken_sidecar);
  assert_refused(load(&s, broken, &error), SS_ERROR_INPUT, "broken.h5.xxh128");
  scene_close(&s);
}

static void test_foreign_files(void **state) {
  (void)state;
  ss_error error = {0};
  scene s;
  char path[TEST_PATH];
  scene_open(&s, FIXTURE_GPT2);
  assert_refused(load(&s, test_path(path, "absent.h5"), &error), SS_ERROR_IO,
                 "absent.h5: cannot open: No such file");
  assert_refused(load(&s, test_write(path, "text.h5", "hello\n"), &error), SS_ERROR_INPUT,
                 "not an HDF5 file");
  assert_refused(load(&s, test_write(path, "empty.h5", ""), &error), SS_ERROR_INPUT, "not an HDF5 file");
  assert_refused(load(&s, getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", &error), SS_ERROR_INPUT,
                 "regular file");
  ss_hdf5 *file = NULL;
  assert_ok(ss_hdf5_create(&file, test_path(path, "other.h5"), "selfspan-dataset", 1, &error));
  assert_ok(ss_hdf5_commit(file, &error));
  assert_refused(load(&s, path, &error), SS_ERROR_INPUT,
                 "format is \"selfspan-dataset\", expected \"selfspan-check");
  assert_ok(ss_hdf5_create(&file, path, CHECKPOINT_FORMAT, CHECKPOINT_SCHEMA_VERSION + 1, &error));
  assert_ok(ss_hdf5_commit(file, &error));
  assert_refused(load(&s, path, &error), SS_ERROR_INPUT, "schema_version is 2, expected at most 1");
  assert_ok(ss_hdf5_create(&file, path, CHECKPOINT_FORMAT, 1, &error));
  assert_ok(ss_hdf5_commit(file, &error));
  assert_refused(load(&s, path, &error), SS_ERROR_INPUT, "attribute \"model\" is missing");
  scene_close(&s);
}

// A checkpoint with one field altered, made by hand: the whole file is consistent with its hash.
typedef enum {
  ALTER_NOTHING,
  ALTER_SHAPE,
  ALTER_TYPE,
  ALTER_RANK,
  ALTER_MISSING,
  ALTER_EXTRA,
  ALTER_HUGE_MODEL,
  ALTER_MODEL_KEY,
  ALTER_MODEL_JSON,
  ALTER_MODEL_VALUES,
  ALTER_STEP
} alteration;

static const char model_json[] =
    "{\"model.n_layer\":%d,\"model.n_head\":2,\"model.n_kv_head\":2,\"model.n_embd\":%d,\"model.n_ff\":8,"
    "\"model.n_positions\":4,\"model.vocab_size\":%d,\"model.norm\":\"rms\",\"model.position\":\"none\","
    "\"model.activation\":\"gelu\",\"model.bias\":false%s}";

static void write_altered(const char *path, alteration what) {
  ss_error error = {0};
  ss_hdf5 *file = NULL;
  char model[512];
  float values[64] = {0};
  double wide[64] = {0};
  static const struct {
    const char *name;
    int32_t rank;
    int64_t dims[2];
  } arrays[] = {{"wte", 2, {6, 4}},
                {"block.0.norm1.weight", 1, {4, 0}},
                {"block.0.attention.qkv.weight", 2, {12, 4}},
                {"block.0.attention.proj.weight", 2, {4, 4}},
                {"block.0.norm2.weight", 1, {4, 0}},
                {"block.0.mlp.up.weight", 2, {8, 4}},
                {"block.0.mlp.down.weight", 2, {4, 8}},
                {"norm.weight", 1, {4, 0}}};
  snprintf(model, sizeof model, model_json, what == ALTER_HUGE_MODEL ? 1000 : 1,
           what == ALTER_MODEL_VALUES ? 5 : 4, what == ALTER_HUGE_MODEL ? 16000000 : 6,
           what == ALTER_MODEL_KEY ? ",\"model.colour\":1" : "");
  if (what == ALTER_MODEL_JSON)
    model[3] = '"';
  assert_ok(ss_hdf5_create(&file, path, CHECKPOINT_FORMAT, CHECKPOINT_SCHEMA_VERSION, &error));
  assert_ok(ss_hdf5_set_string(file, "model", model, &error));
  assert_ok(ss_hdf5_set_string(file, "vocabulary", "abc", &error));
  assert_ok(ss_hdf5_set_string(file, "policy", "", &error));
  assert_ok(ss_hdf5_set_string(file, "config", "", &error));
  if (what == ALTER_STEP)
    assert_ok(ss_hdf5_set_real(file, "step", 1, &error));
  else
    assert_ok(ss_hdf5_set_int(file, "step", 1, &error));
  assert_ok(ss_hdf5_set_int(file, "examples_seen", 1, &error));
  assert_ok(ss_hdf5_set_int(file, "best_step", 1, &error));
  assert_ok(ss_hdf5_set_real(file, "best_validation_loss", 1, &error));
  for (int k = 0; k < 8; ++k) {
    char name[128];
    int64_t dims[2] = {arrays[k].dims[0], arrays[k].dims[1]};
    bool here = k == 2;
    snprintf(name, sizeof name, "parameters/%s", arrays[k].name);
    if (here && what == ALTER_MISSING)
      continue;
    if (here && what == ALTER_SHAPE)
      dims[0] = 11;
    int32_t rank = here && what == ALTER_RANK ? 1 : arrays[k].rank;
    bool doubles = here && what == ALTER_TYPE;
    assert_ok(ss_hdf5_write_array(file, name, doubles ? SS_HDF5_F64 : SS_HDF5_F32, rank, dims,
                                  doubles ? (void *)wide : (void *)values, &error));
  }
  int64_t one = 1;
  if (what == ALTER_EXTRA)
    assert_ok(ss_hdf5_write_array(file, "parameters/lm_head", SS_HDF5_F32, 1, &one, values, &error));
  assert_ok(ss_hdf5_commit(file, &error));
}

static void test_mismatches(void **state) {
  (void)state;
  ss_error error = {0};
  scene s;
  char path[TEST_PATH];
  scene_open(&s, FIXTURE_GPT2);
  test_path(path, "altered.h5");
  static const struct {
    alteration what;
    const char *message;
  } cases[] = {
      {ALTER_SHAPE, "\"parameters/block.0.attention.qkv.weight\" has size 11 in dimension 0, expected 12"},
      {ALTER_TYPE, "\"parameters/block.0.attention.qkv.weight\" has another type, expected float32"},
      {ALTER_RANK, "\"parameters/block.0.attention.qkv.weight\" has another rank, expected 2"},
      {ALTER_MISSING, "\"parameters/block.0.attention.qkv.weight\" is missing"},
      {ALTER_EXTRA, "\"lm_head\" is unknown"},
      {ALTER_HUGE_MODEL, "\"parameters/wte\" has size 6 in dimension 0, expected 16000000"},
      {ALTER_MODEL_KEY, "model.colour"},
      {ALTER_MODEL_JSON, "attribute \"model\" is not JSON"},
      {ALTER_MODEL_VALUES, "model.n_embd is 5, expected a multiple of model.n_head 2"},
      {ALTER_STEP, "attribute \"step\" is not one int64"},
  };
  write_altered(path, ALTER_NOTHING);
  assert_ok(load(&s, path, &error));
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
    write_altered(path, cases[k].what);
    assert_refused(load(&s, path, &error), SS_ERROR_INPUT, cases[k].message);
    write_altered(path, cases[k].what);
    load(&s, path, &error);
    assert_non_null(strstr(error.message, "altered.h5"));
    assert_null(strchr(error.message, '\n'));
    ss_error_clear(&error);
  }
  // Of another vocabulary, and for another model.
  gpt *model = NULL;
  write_altered(path, ALTER_NOTHING);
  assert_refused(checkpoint_load_model(path, s.device, false, "abcd", &model, NULL, &error), SS_ERROR_INPUT,
                 "\"vocabulary\"");
  assert_null(model);
  assert_refused(checkpoint_load_parameters(path, s.model, &error), SS_ERROR_INPUT, "model.n_");
  scene_close(&s);
}

static void test_unwritable(void **state) {
  (void)state;
  ss_error error = {0};
  scene s;
  char folder[TEST_PATH], path[TEST_PATH + 32];
  scene_open(&s, FIXTURE_GPT2);
  test_path(folder, "unwritable");
  snprintf(path, sizeof path, "%s/absent/model.h5", folder);
  assert_refused(checkpoint_write(path, s.model, NULL, NULL, &s.meta, &error), SS_ERROR_IO, "No such file");
  assert_ok(ss_make_directories(folder, &error));
  snprintf(path, sizeof path, "%s/model.h5", folder);
  assert_int_equal(chmod(folder, 0500), 0);
  if (geteuid() != 0)  // root writes everywhere
    assert_refused(checkpoint_write(path, s.model, NULL, NULL, &s.meta, &error), SS_ERROR_IO,
                   "Permission denied");
  assert_int_equal(chmod(folder, 0700), 0);
  assert_int_equal(count_files(folder), 0);
  // a folder of that name
  assert_refused(checkpoint_write(folder, s.model, NULL, NULL, &s.meta, &error), SS_ERROR_IO, "folder");
  scene_close(&s);
}

// Writes `path` under ever larger limits on the size of files, all too small. Returns 0, or the number of the step
// that went wrong.
static int write_on_full_disk(const scene *s, const char *folder, const char *path, const char *copy) {
  ss_error error = {0};
  struct stat information;
  struct rlimit old;
  signal(SIGXFSZ, SIG_IGN);
  if (stat(path, &information) != 0 || getrlimit(RLIMIT_FSIZE, &old) != 0)
    return 1;
  for (int part = 0; part < 10; ++part) {
    struct rlimit limit = {(rlim_t)(information.st_size * part / 10 + 64), old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    ss_status status = checkpoint_write(path, s->model, s->first, s->second, &s->meta, &error);
    setrlimit(RLIMIT_FSIZE, &old);
    if (status != SS_ERROR_IO || strstr(error.message, "model.h5: cannot") == NULL)
      return 2;
    if (count_files(folder) != 2)
      return 3;
    ss_error_clear(&error);
    if (load(s, path, &error) != SS_OK)
      return 4;
  }
  assert_same_files(path, copy);
  // The disk has room again.
  return checkpoint_write(path, s->model, s->first, s->second, &s->meta, &error) == SS_OK ? 0 : 5;
}

// A full disk: an error at every stage of writing, nothing left behind, the file that stood there untouched, the
// library usable afterwards, and no crash at exit. In a child: exiting is part of the
// test.
static void test_full_disk(void **state) {
  (void)state;
  ss_error error = {0};
  scene s;
  char folder[TEST_PATH], path[TEST_PATH + 32], copy[TEST_PATH];
  scene_open(&s, FIXTURE_GPT2);
  assert_ok(ss_make_directories(test_path(folder, "full"), &error));
  snprintf(path, sizeof path, "%s/model.h5", folder);
  scene_write(&s, path);
  copy_file(path, test_path(copy, "full_copy.h5"), SIZE_MAX);
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int failed = write_on_full_disk(&s, folder, path, copy);
    exit(failed);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_same_files(path, copy);
  scene_close(&s);
}

int main(void) {
  static fixture_architecture gpt2 = FIXTURE_GPT2, llama = FIXTURE_LLAMA;
  const struct CMUnitTest tests[] = {
      {"test_round_trip (gpt2)", test_round_trip, NULL, NULL, &gpt2},
      {"test_round_trip (llama)", test_round_trip, NULL, NULL, &llama},
      cmocka_unit_test(test_export),
      cmocka_unit_test(test_every_bit_survives),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_foreign_files),
      cmocka_unit_test(test_mismatches),
      cmocka_unit_test(test_unwritable),
      cmocka_unit_test(test_full_disk),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
