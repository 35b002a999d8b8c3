#include <math.h>

#include "train/optimizer.h"

double schedule_rate(schedule_kind kind, double peak, double final_ratio, int64_t warmup, int64_t steps,
                     int64_t step) {
  // The first step already learns: step 0 of a warm-up over w steps has rate peak / w, step w - 1 the peak.
  if (step < warmup)
    return peak * (double)(step + 1) / (double)warmup;
  if (kind == SCHEDULE_CONSTANT || steps <= warmup)
    return peak;
  double progress = (double)(step - warmup) / (double)(steps - warmup);
  if (progress > 1)
    progress = 1;
  double share = kind == SCHEDULE_LINEAR ? 1 - progress : 0.5 * (1 + cos(3.14159265358979323846 * progress));
  return peak * (final_ratio + (1 - final_ratio) * share);
}
