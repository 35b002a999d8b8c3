// The command line: finds the subcommand, runs it, and is the one place where an error becomes text
// and an exit status.
#include <cblas.h>
#include <gmp.h>
#include <hdf5.h>
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <yaml.h>

#include "commands/commands.h"
#include "commands/openblas_core.h"
#include "common/cli.h"

typedef struct {
  const char *name;
  ss_status (*run)(int argc, char **argv, ss_error *error);
  const char *summary;
  bool multiplies;  // with OpenBLAS
} command;

static ss_status command_version(int argc, char **argv, ss_error *error);
static ss_status command_help(int argc, char **argv, ss_error *error);

static const command commands[] = {
    {"data", ss_command_data, "generate or import a dataset", false},
    {"import", ss_command_import, "turn a pre-trained GPT-2 or Llama-style model into a model file", false},
    {"train", ss_command_train, "train or fine-tune a model", true},
    {"generate", ss_command_generate, "continue prompts, selecting spans on the way", true},
    {"eval", ss_command_eval, "measure accuracy, attended rows and speed", true},
    {"bench", ss_command_bench, "time training and decoding on this machine", true},
    {"inspect", ss_command_inspect, "show an example: segments, references, what each token may read", false},
    {"export", ss_command_export, "write data, results and notebooks in other formats", false},
    {"version", command_version, "print version, compiler and libraries", false},
    {"help", command_help, "print this list, or the help of a command", false},
};

#define N_COMMAND (int)(sizeof commands / sizeof *commands)

static ss_status find_command(const char *name, const command **out, ss_error *error) {
  const char *names[N_COMMAND];
  for (int i = 0; i < N_COMMAND; i++) {
    names[i] = commands[i].name;
    if (strcmp(name, commands[i].name) == 0) {
      *out = &commands[i];
      return SS_OK;
    }
  }
  const char *nearest = ss_nearest(name, names, N_COMMAND);
  if (nearest == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "unknown command '%s'; selfspan --help lists them", name);
  return ss_fail(error, SS_ERROR_USAGE, "unknown command '%s'; did you mean '%s'?", name, nearest);
}

static void print_usage(FILE *file) {
  fprintf(file, "selfspan %s: fine-tune a GPT that selects its own attention span\n\n", SS_VERSION);
  fprintf(file, "usage: selfspan COMMAND [options]\n\ncommands:\n");
  for (int i = 0; i < N_COMMAND; i++)
    fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].summary);
  fprintf(file, "\nselfspan COMMAND --help explains a command.\n\nexamples:\n"
                "  selfspan generate --model base/base.h5 --expression \"((3+4)*2)\" --show-spans\n"
                "  selfspan bench decode --device cpu\n");
}

static ss_status command_help(int argc, char **argv, ss_error *error) {
  if (argc < 2 || argv[1][0] == '-') {
    print_usage(stdout);
    return SS_OK;
  }
  const command *found = NULL;
  SS_TRY(find_command(argv[1], &found, error));
  if (found->run == command_help) {
    print_usage(stdout);
    return SS_OK;
  }
  char help[] = "--help";
  char *arguments[] = {argv[1], help, NULL};
  return found->run(2, arguments, error);
}

static json_t *version_json(void) {
  unsigned major = 0, minor = 0, release = 0;
  char hdf5[64], xxhash[64];
  H5get_libversion(&major, &minor, &release);
  snprintf(hdf5, sizeof hdf5, "%u.%u.%u", major, minor, release);
  unsigned number = XXH_versionNumber();
  snprintf(xxhash, sizeof xxhash, "%u.%u.%u", number / 10000, number / 100 % 100, number % 100);
#ifdef SS_WITH_CUDA
  bool cuda = true;
#else
  bool cuda = false;
#endif
  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:b}", "selfspan", SS_VERSION,
                   "compiler", __VERSION__, "openblas", openblas_get_config(), "openblas_core",
                   openblas_get_corename(), "hdf5", hdf5, "libyaml", yaml_get_version_string(), "gmp",
                   gmp_version, "xxhash", xxhash, "jansson", JANSSON_VERSION, "omp_threads",
                   omp_get_max_threads(), "cuda", cuda);
}

static ss_status command_version(int argc, char **argv, ss_error *error) {
  bool as_json = false, help = false;
  const ss_option options[] = {{"json", SS_OPTION_FLAG, &as_json, NULL, "print a JSON object"},
                               {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {.command = "version",
                                .summary = "Prints version, compiler and libraries.",
                                .usage = "selfspan version [--json]",
                                .options = options,
                                .examples = "  selfspan version --json"};
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  json_t *object = version_json(), *value;
  const char *key;
  if (object == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory");
  if (as_json) {
    json_dumpf(object, stdout, JSON_INDENT(2));
    printf("\n");
  } else {
    json_object_foreach(object, key, value) {
      if (json_is_string(value))
        printf("%-14s %s\n", key, json_string_value(value));
      else if (json_is_integer(value))
        printf("%-14s %lld\n", key, (long long)json_integer_value(value));
      else
        printf("%-14s %s\n", key, json_is_true(value) ? "yes" : "no");
    }
  }
  json_decref(object);
  return SS_OK;
}

static int report(const char *name, const ss_error *error, ss_status status) {
  const char *message = error->status == SS_OK ? "failed without a message" : error->message;
  fflush(stdout);
  // An interruption finds a progress bar in the terminal's line.
  const char *start = status == SS_ERROR_INTERRUPTED && isatty(STDERR_FILENO) ? "\r\033[K" : "";
  fprintf(stderr, "%sselfspan%s%s: error: %s\n", start, name[0] == '\0' ? "" : " ", name, message);
  return (int)status;
}

int main(int argc, char **argv) {
  ss_error error = {0};
  if (argc < 2) {
    print_usage(stderr);
    return SS_ERROR_USAGE;
  }
  const char *name = argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
    name = "help";
  if (strcmp(name, "--version") == 0)
    name = "version";
  const command *found = NULL;
  ss_status status = find_command(name, &found, &error);
  if (status != SS_OK)
    return report("", &error, status);
  if (found->multiplies)
    openblas_core_correct(argv);
  status = found->run(argc - 1, argv + 1, &error);
  if (status != SS_OK)
    return report(found->name, &error, status);
  // Output that never reached a full disk must not look like success.
  if (fflush(stdout) != 0 || ferror(stdout)) {
    ss_fail_errno(&error, SS_ERROR_IO, "standard output: cannot write");
    return report(found->name, &error, SS_ERROR_IO);
  }
  return 0;
}
