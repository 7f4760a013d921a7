/* SPDX-License-Identifier: Apache-2.0 */
/* Progress in three shapes, and the signals that end it early. */
#include "cli/progress.h"
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "util/text.h"

#define BAR_WIDTH 24
#define SECONDS   0.1 /* between two showings */

static atomic_bool interrupted;

double cli_seconds_since(const struct timespec *begun)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - begun->tv_sec) + (double)(now.tv_nsec - begun->tv_nsec) / 1e9;
}

static double percent_of(uint64_t done, uint64_t total)
{
	return total ? 100.0 * (double)done / (double)total : 100.0;
}

static void show_percent(struct cli_progress *p, uint64_t done, uint64_t total)
{
	double percent = percent_of(done, total);

	if (percent < p->percent + 1 && (done < total || p->percent >= 100))
		return;
	fprintf(p->to, "    (%.2f/100%%)\r", percent);
	fflush(p->to);
	p->percent = percent;
}

/* Whether enough time has passed, or it is the end. */
static bool is_due(struct cli_progress *p, uint64_t done, uint64_t total)
{
	if (done < total && cli_seconds_since(&p->shown) < SECONDS)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &p->shown);
	return true;
}

static void show_bar(struct cli_progress *p, uint64_t done, uint64_t total)
{
	double seconds = cli_seconds_since(&p->begun), share = percent_of(done, total) / 100;
	char is[16], of[16], rate[16], bar[BAR_WIDTH + 1];
	double left = share > 0 ? seconds / share - seconds : 0;

	if (!is_due(p, done, total))
		return;
	for (int i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < (int)(share * BAR_WIDTH) ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	vmimg_format_size(is, done);
	vmimg_format_size(of, total);
	vmimg_format_size(rate, seconds > 0 ? (uint64_t)((double)done / seconds) : 0);
	fprintf(p->to, "\r[%s] %3.0f%%  %s of %s, %s/s, %d:%02d left\033[K", bar, share * 100, is,
		of, rate, (int)left / 60, (int)left % 60);
	fflush(p->to);
}

static void show_json(struct cli_progress *p, uint64_t done, uint64_t total)
{
	if (!is_due(p, done, total))
		return;
	fprintf(p->to,
		"{\"schema\": \"vmimg.progress/1\", \"done\": %" PRIu64 ", \"total\": %" PRIu64
		", \"percent\": %.2f, \"seconds\": %.3f}\n",
		done, total, percent_of(done, total), cli_seconds_since(&p->begun));
	fflush(p->to);
}

void cli_progress_begin(struct cli_progress *p, const struct cli_common *common, bool stdout_taken)
{
	enum cli_progress_kind kind = common->progress;

	memset(p, 0, sizeof(*p));
	p->to = stderr;
	p->rate = common->rate;
	clock_gettime(CLOCK_MONOTONIC, &p->begun);
	if (common->quiet)
		return;
	if (kind == CLI_PROGRESS_JSON) {
		p->show = show_json;
	} else if (common->percent) {
		p->to = stdout_taken ? stderr : stdout;
		p->show = show_percent;
		fprintf(p->to, "    (0.00/100%%)\r");
		fflush(p->to);
	} else if (kind == CLI_PROGRESS_BAR || (!kind && isatty(STDERR_FILENO))) {
		p->show = show_bar;
	}
}

/* Steps come one at a time, so all wait when one does. */
static void hold_back(const struct cli_progress *p, uint64_t done)
{
	double early = (double)done / (double)p->rate - cli_seconds_since(&p->begun);

	while (early > 0 && !atomic_load(&interrupted)) {
		double nap = early < SECONDS ? early : SECONDS;
		struct timespec time = { .tv_nsec = (long)(nap * 1e9) };

		nanosleep(&time, NULL);
		early -= nap;
	}
}

void cli_progress_step(void *progress, uint64_t done, uint64_t total)
{
	struct cli_progress *p = progress;

	if (p->rate)
		hold_back(p, done);
	if (p->show)
		p->show(p, done, total);
}

void cli_progress_end(struct cli_progress *p)
{
	if (p->show == show_percent)
		fputc('\n', p->to);
	if (p->show == show_bar)
		fprintf(p->to, "\r\033[K");
	p->show = NULL;
	fflush(p->to);
}

static void interrupt(int signal)
{
	(void)signal;
	atomic_store(&interrupted, true);
}

const atomic_bool *cli_catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND };
	struct sigaction old;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	return &interrupted;
}
