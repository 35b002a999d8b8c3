#include "common/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH 24
#define TERMINAL_SECONDS 0.2
#define PLAIN_SECONDS 5.0
#define LINE_LIMIT 512

double ss_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void ss_progress_start(ss_progress *progress, const char *label, const char *unit, int64_t first,
                       int64_t total, bool quiet) {
  memset(progress, 0, sizeof *progress);
  progress->label = label;
  progress->unit = unit;
  progress->first = progress->last_done = first;
  progress->total = total;
  progress->quiet = quiet;
  progress->terminal = isatty(STDERR_FILENO) != 0;
  progress->start = progress->last = ss_seconds();
}

static void format_duration(double seconds, char *out, size_t size) {
  long long whole = (long long)(seconds + 0.5);
  if (whole >= 3600)
    snprintf(out, size, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  else
    snprintf(out, size, "%lld:%02lld", whole / 60, whole % 60);
}

static void format_rate(double rate, const char *unit, char *out, size_t size) {
  if (rate >= 1e6)
    snprintf(out, size, "%.2fM %s/s", rate * 1e-6, unit);
  else if (rate >= 1e4)
    snprintf(out, size, "%.1fK %s/s", rate * 1e-3, unit);
  else
    snprintf(out, size, rate < 10 ? "%.2f %s/s" : "%.0f %s/s", rate, unit);
}

static int terminal_columns(void) {
  struct winsize window;
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20)
    return window.ws_col;
  return 80;
}

// `finished` prints elapsed time and the mean rate instead of the ETA and the current rate.
static void print_line(const ss_progress *progress, int64_t done, const char *note, double now,
                       bool finished) {
  char line[LINE_LIMIT], rate[64], duration[32], amount[96], bar[BAR_WIDTH + 4] = "";
  double elapsed = now - progress->start;
  double speed = finished && elapsed > 0 ? (double)(done - progress->first) / elapsed : progress->rate;
  format_rate(speed, progress->unit, rate, sizeof rate);
  if (progress->total > 0) {
    double share = (double)done / (double)progress->total;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    int filled = (int)(share * BAR_WIDTH);
    if (progress->terminal) {
      bar[0] = '[';
      memset(bar + 1, '=', (size_t)filled);
      memset(bar + 1 + filled, ' ', (size_t)(BAR_WIDTH - filled));
      memcpy(bar + 1 + BAR_WIDTH, "] ", 3);
    }
    snprintf(amount, sizeof amount, "%3.0f%% %lld/%lld", 100 * share, (long long)done,
             (long long)progress->total);
  } else {
    snprintf(amount, sizeof amount, "%lld", (long long)done);
  }
  bool eta = !finished && progress->total > 0 && speed > 0;
  format_duration(eta ? (double)(progress->total - done) / speed : elapsed, duration, sizeof duration);
  int length = snprintf(line, sizeof line, "%s %s%s %s  %s %s%s%s", progress->label, bar, amount, rate,
                        eta ? "ETA" : "in", duration, note == NULL ? "" : "  ", note == NULL ? "" : note);
  if (length >= (int)sizeof line)
    length = (int)sizeof line - 1;
  if (!progress->terminal) {
    fprintf(stderr, "%s\n", line);
    return;
  }
  int columns = terminal_columns() - 1;  // a full line would wrap and leave debris
  if (!finished && length > columns)
    length = columns;
  fprintf(stderr, "\r%.*s\033[K%s", length, line, finished ? "\n" : "");
  fflush(stderr);
}

void ss_progress_update(ss_progress *progress, int64_t done, const char *note) {
  if (progress->quiet)
    return;
  double now = ss_seconds(), passed = now - progress->last;
  if (passed < (progress->terminal ? TERMINAL_SECONDS : PLAIN_SECONDS))
    return;
  double rate = (double)(done - progress->last_done) / passed;
  // A time constant of about five seconds, however often updates come.
  double weight = passed / (passed + 5.0);
  progress->rate = progress->rate == 0 ? rate : progress->rate + weight * (rate - progress->rate);
  progress->last = now;
  progress->last_done = done;
  print_line(progress, done, note, now, false);
}

void ss_progress_show(void *progress, int64_t done, int64_t total) {
  ((ss_progress *)progress)->total = total;
  ss_progress_update(progress, done, NULL);
}

void ss_progress_finish(ss_progress *progress, int64_t done, const char *note) {
  if (!progress->quiet)
    print_line(progress, done, note, ss_seconds(), true);
}
