/* SPDX-License-Identifier: MIT */
/* top: live rates of all rows, on a terminal, or round by round into anything else. */
#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/top.h"

#define INTERVAL_DEFAULT 1.0
#define INTERVAL_FIRST 0.5 /* at most, until there are rates to see */

struct top {
	const struct ctl *ctl;
	double interval;
	enum top_sort sort;
	bool reverse, unicode;
	struct sample last;
	struct top_rows rows;
	char agent[128];
	char error[128]; /* "": none */
};

static void top_done(struct top *top)
{
	top_rows_done(&top->rows);
	sample_done(&top->last);
}

static void describe_agent(const struct agent_view *view, char *buf, size_t size)
{
	const json_t *agent = json_object_get(view->document, "agent");
	bool degraded = agent && strcmp(json_text(agent, "state"), "ok") != 0;

	switch (view->life) {
	case AGENT_RUNNING:
		(void)snprintf(buf, size, "agent running%s",
			degraded ? ", degraded: see 'ipipdirectctl status'" : "");
		return;
	case AGENT_STOPPED:
		(void)snprintf(buf, size, "agent not running: what is pinned goes on");
		return;
	case AGENT_UNKNOWN:
		(void)snprintf(buf, size, "unknown whether an agent runs");
		return;
	}
}

/* One round. A map that cannot be read leaves what was shown, and is told: 0 or -errno. */
static int read_round(struct top *top)
{
	_cleanup_(agent_view_done) struct agent_view view = { 0 };
	_cleanup_(owners_done) struct owners owners = { 0 };
	_cleanup_(sample_done) struct sample now = SAMPLE_NONE;
	struct top_rows rows;
	int r;

	r = agent_read(top->ctl, &view);
	if (r < 0)
		return r;
	describe_agent(&view, top->agent, sizeof(top->agent));
	r = sample_take(&now);
	if (r == 0)
		r = owners_make(view.document, &owners);
	if (r == 0)
		r = top_rows_make(&top->rows, &top->last, &now, &owners, &rows);
	if (r < 0) {
		(void)snprintf(top->error, sizeof(top->error), "cannot read the maps: %s",
			r == -ENOENT ? "none are pinned" : strerror(-r));
		return r;
	}
	top->error[0] = '\0';
	top_rows_done(&top->rows);
	top->rows = rows;
	sample_done(&top->last);
	top->last = now;
	now = SAMPLE_NONE;
	top_rows_sort(&top->rows, top->sort, top->reverse);
	return 0;
}

static struct timespec later(double seconds)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	time.tv_sec += (time_t)seconds;
	time.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
	if (time.tv_nsec >= 1000000000) {
		time.tv_sec++;
		time.tv_nsec -= 1000000000;
	}
	return time;
}

static int until_ms(const struct timespec *end)
{
	struct timespec now;
	int64_t ms;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (int64_t)(end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000 +
	     1;
	return ms > 0 ? (int)ms : 0;
}

/* ---- round by round */

static int print_round(const struct top *top)
{
	struct top_layout layout = top_layout_make(&top->rows, output_width(), top->unicode);
	struct top_head head = { .now = &top->last };
	char text[TOP_LINE_MAX];

	top_summary(&head, &top->rows, text);
	(void)puts(text);
	(void)puts(top->agent);
	if (!top->ctl->no_legend) {
		top_title(&layout, text);
		(void)puts(text);
	}
	for (size_t i = 0; i < top->rows.n_order; i++) {
		top_line(&layout, top->rows.order[i], text);
		(void)puts(text);
	}
	(void)fputc('\n', stdout);
	return fflush(stdout) == 0 ? CTL_OK : CTL_FAILED; /* main() says it */
}

static int run_batch(struct top *top)
{
	int r, status = CTL_OK;

	for (unsigned int n = 0;
		status == CTL_OK && (top->ctl->rounds == 0 || n < top->ctl->rounds); n++) {
		struct timespec next = later(top->interval);

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
			;
		r = read_round(top);
		if (r < 0)
			return live_fail(top->ctl, r);
		status = print_round(top);
	}
	return status;
}

/* ---- on a terminal */

static void draw(const struct top *top, struct top_screen *screen)
{
	struct top_head head = {
		.now = &top->last, .agent = top->agent, .error = top->error[0] ? top->error : NULL
	};

	top_screen_draw(screen, &head, &top->rows, top->sort, top->reverse, top->unicode);
}

/* Whether to go on. */
static bool take_keys(struct top *top, struct top_screen *screen)
{
	enum top_key key;

	while ((key = top_screen_read(screen, &top->sort)) != TOP_KEY_NONE) {
		if (key == TOP_KEY_QUIT)
			return false;
		if (key == TOP_KEY_REVERSE)
			top->reverse = !top->reverse;
		else if (key == TOP_KEY_SORT)
			top->reverse = false;
	}
	top_rows_sort(&top->rows, top->sort, top->reverse);
	return true;
}

/* A signal that ends us, or 0 when there was none such. */
static int take_signals(int fd, struct top_screen *screen)
{
	struct signalfd_siginfo info;
	int ending = 0;

	while (read(fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			top_screen_resize(screen);
		else
			ending = (int)info.ssi_signo;
	}
	return ending;
}

/* Until the user has enough: 0, or the signal by which we were ended. */
static int loop(struct top *top, struct top_screen *screen, int signals)
{
	struct timespec next =
		later(top->interval < INTERVAL_FIRST ? top->interval : INTERVAL_FIRST);

	for (;;) {
		struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
			{ .fd = signals, .events = POLLIN } };
		int r, ending;

		draw(top, screen);
		r = poll(fds, 2, until_ms(&next));
		if (r < 0 && errno != EINTR)
			return 0;
		ending = take_signals(signals, screen);
		if (ending != 0)
			return ending;
		if (r > 0 && fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
			return 0; /* the terminal is gone */
		if (!take_keys(top, screen))
			return 0;
		if (until_ms(&next) == 0) {
			(void)read_round(top);
			next = later(top->interval);
		}
	}
}

/* Those that end us, and the one that says that the terminal has another size. */
static void ending_signals(sigset_t *ret)
{
	(void)sigemptyset(ret);
	(void)sigaddset(ret, SIGINT);
	(void)sigaddset(ret, SIGTERM);
	(void)sigaddset(ret, SIGHUP);
	(void)sigaddset(ret, SIGQUIT);
	(void)sigaddset(ret, SIGWINCH);
}

static int run_on_terminal(struct top *top, struct top_screen *screen, const sigset_t *old)
{
	_cleanup_close_ int signals = -1;
	sigset_t set;
	int ending = 0;

	ending_signals(&set);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals >= 0)
		ending = loop(top, screen, signals);
	top_screen_close(screen);
	if (signals < 0)
		return ctl_fail(top->ctl, CTL_FAILED, "failed", NULL, "cannot wait for signals: %s",
			strerror(errno));
	if (ending != 0 && ending != SIGINT) { /* as if we had never caught it */
		(void)signal(ending, SIG_DFL);
		(void)sigprocmask(SIG_SETMASK, old, NULL);
		(void)raise(ending);
	}
	return CTL_OK;
}

static int run_top(const struct ctl *ctl)
{
	_cleanup_(top_done) struct top top = { .ctl = ctl, .last = SAMPLE_NONE };
	struct top_screen *screen = NULL;
	sigset_t set, old;
	int r;

	if (ctl->sort && top_sort_parse(ctl->sort, &top.sort) < 0)
		return ctl_fail(ctl, CTL_USAGE, "usage", "try 'ipipdirectctl top --help'",
			"--sort: expected b, p, k or n, not '%s'", ctl->sort);
	if (ctl->json)
		return ctl_fail(ctl, CTL_USAGE, "usage", "try 'ipipdirectctl -j stats --watch'",
			"'top' is for people and has no JSON form");
	top.interval = ctl->interval > 0 ? ctl->interval : INTERVAL_DEFAULT;
	(void)setlocale(LC_CTYPE, "");
	top.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	r = read_round(&top);
	if (r < 0)
		return live_fail(ctl, r);
	/* Blocked before the terminal is changed, so that there is no moment to be killed in. */
	ending_signals(&set);
	(void)sigprocmask(SIG_BLOCK, &set, &old);
	if (ctl->rounds == 0 && top_screen_open(&screen) == 0)
		return run_on_terminal(&top, screen, &old);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return run_batch(&top);
}

const struct ctl_command ctl_top_command = {
	.name = "top",
	.summary = "live rates of all tunnels",
	.help = "Shows packets and bits a second that go straight to clients, packets that are\n"
		"kept on the tunnel and mostly why, and the rate of the last rounds as a line,\n"
		"each tunnel by its own highest. Needs no agent.\n"
		"\n"
		"Keys: b, p, k, n sort by bits, packets, kept, name; r reverses; arrows and page\n"
		"keys scroll; q quits. With -n, or when standard output is no terminal, it\n"
		"prints round by round.\n",
	.options = CTL_OPTION_ROUNDS | CTL_OPTION_DELAY | CTL_OPTION_SORT,
	.run = run_top,
};
