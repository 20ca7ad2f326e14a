/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/core/status.h"
#include "agent/publish.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/clock.h"
#include "agent/util/file.h"
#include "agent/util/log.h"
#include "agent/util/memory.h"

/* Ten times a second at most, and a tenth of a processor; what takes more than half a second, each five. */
#define PAUSE_MIN_USEC (100 * 1000)
#define PAUSE_SHARE 9
#define PAUSE_MAX_USEC (5 * 1000 * 1000)
#define RETRY_USEC (1000 * 1000) /* after a failure */
/* What takes less is not worth a child. */
#define ALONE_USEC (20 * 1000)
#define CHILD_NICE 10

/* A failure is said once, until it is another or over. */
static int write_status(const struct publisher *publisher)
{
	json_t *status = reconciler_status(publisher->reconciler);
	_cleanup_free_ char *text = status ? json_dumps(status, JSON_INDENT(1)) : NULL;
	int r;

	json_decref(status);
	r = text ? file_replace(publisher->run_dir, STATUS_FILE, text, strlen(text)) : -ENOMEM;
	if (r < 0 && r != publisher->error)
		log_warning("cannot write " STATUS_FILE ": %s; trying again", strerror(-r));
	else if (r == 0 && publisher->error < 0)
		log_notice(STATUS_FILE " is written again");
	return r;
}

/* `took` of processor time: on a busy host it is not the status that makes everything slow. */
static void note(struct publisher *publisher, int error, uint64_t took)
{
	uint64_t pause = PAUSE_SHARE * took;

	publisher->error = error;
	if (error < 0 && pause < RETRY_USEC)
		pause = RETRY_USEC;

	if (pause < PAUSE_MIN_USEC)
		pause = PAUSE_MIN_USEC;
	if (pause > PAUSE_MAX_USEC)
		pause = PAUSE_MAX_USEC;
	publisher->took_usec = took;
	publisher->not_before_usec = monotonic_usec() + pause;
}

/* What it would write is older than what is there then. */
static void stop_child(struct publisher *publisher)
{
	if (publisher->pid <= 0)
		return;
	publisher->child = sd_event_source_unref(publisher->child);
	(void)kill(publisher->pid, SIGKILL);
	(void)waitpid(publisher->pid, NULL, 0);
	publisher->pid = 0;
}

bool publisher_takes_long(const struct publisher *publisher)
{
	return publisher->not_before_usec == 0 || publisher->took_usec > INTERFACES_DEAF_USEC;
}

int publisher_publish(struct publisher *publisher)
{
	uint64_t begin = clock_usec(CLOCK_PROCESS_CPUTIME_ID);
	int r;

	stop_child(publisher);
	if (publisher_takes_long(publisher))
		interfaces_suspend(&publisher->reconciler->interfaces);
	r = write_status(publisher);
	publisher->is_behind = r < 0;
	memory_give_back();
	note(publisher, r, clock_usec(CLOCK_PROCESS_CPUTIME_ID) - begin);
	return r;
}

static int arm(struct publisher *publisher)
{
	int r;

	if (publisher->is_due)
		return 0;
	r = sd_event_source_set_time(publisher->timer, publisher->not_before_usec);
	if (r < 0)
		return r;
	publisher->is_due = true;
	return sd_event_source_set_enabled(publisher->timer, SD_EVENT_ONESHOT);
}

static uint64_t usec_of(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

static int on_child(sd_event_source *source, const siginfo_t *si, void *userdata)
{
	struct publisher *publisher = userdata;
	struct rusage used = { 0 };
	int r = si->si_code == CLD_EXITED ? -si->si_status : -ECANCELED;

	(void)source;
	(void)wait4(publisher->pid, NULL, 0, &used); /* it has ended, or there were no call */
	publisher->child = sd_event_source_unref(publisher->child);
	publisher->pid = 0;
	if (r == 0)
		publisher->is_behind = publisher->is_stale;
	note(publisher, r, usec_of(&used.ru_utime) + usec_of(&used.ru_stime));
	return r < 0 || publisher->is_stale ? arm(publisher) : 0;
}

/*
 * What shows that an agent lives, to the program and to others, it has as well, and lets go of before anything else; until
 * then it takes a moment of a processor, at the agent's own priority. It must not outlive the agent all the same, nor go on as
 * the agent, whatever happens.
 */
__attribute__((noreturn)) static void be_child(const struct publisher *publisher, pid_t agent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != agent)
		_exit(ECANCELED);
	dataplane_drop_alive(publisher->reconciler->dataplane);
	for (size_t i = 0; i < ELEMENTS_OF(publisher->locks); i++)
		(void)close(publisher->locks[i]);
	(void)setpriority(PRIO_PROCESS, 0, CHILD_NICE); /* nobody waits for it */
	_exit(-write_status(publisher));                /* errno fits */
}

/*
 * Not once, as is the default: of a child that somebody traces (strace -f) the descriptor rings already while waitid() knows
 * nothing yet (kernel/exit.c, wait_consider_task()), and a source that has rung once would never hear of its end
 * (sd-event.c, process_pidfd()). From once to always changes the epoll set only by way of off. The loop turns without a
 * pause then, for as long as the tracer takes to let go of it.
 */
static int watch_child(struct publisher *publisher, pid_t pid)
{
	int r = sd_event_add_child(
		publisher->event, &publisher->child, pid, WEXITED, on_child, publisher);

	if (r < 0)
		return r;
	if ((r = sd_event_source_set_enabled(publisher->child, SD_EVENT_OFF)) < 0 ||
		(r = sd_event_source_set_enabled(publisher->child, SD_EVENT_ON)) < 0)
		publisher->child = sd_event_source_unref(publisher->child);
	return r;
}

static int start_child(struct publisher *publisher)
{
	pid_t agent = getpid(), pid = fork();
	int r;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		be_child(publisher, agent);
	r = watch_child(publisher, pid);
	if (r < 0) {
		(void)waitpid(pid, NULL, 0);
		return r;
	}
	publisher->pid = pid;
	publisher->is_stale = false;
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t at, void *userdata)
{
	struct publisher *publisher = userdata;
	int r;

	(void)source;
	(void)at;
	publisher->is_due = false;
	if (publisher->took_usec < ALONE_USEC)
		return publisher_publish(publisher) < 0 ? arm(publisher) : 0;
	r = start_child(publisher);
	if (r == 0)
		return 0;
	log_debug("cannot start a child for " STATUS_FILE ": %s", strerror(-r));
	return publisher_publish(publisher) < 0 ? arm(publisher) : 0;
}

void publisher_note_pass(struct publisher *publisher)
{
	publisher->is_behind = publisher->is_stale = true;
}

void publisher_catch_up(struct publisher *publisher)
{
	if (publisher->is_behind)
		(void)publisher_publish(publisher);
}

int publisher_publish_soon(struct publisher *publisher)
{
	if (!publisher->child)
		return arm(publisher);
	publisher->is_stale = true;
	return 0;
}

int publisher_wire(struct publisher *publisher, sd_event *event)
{
	sigset_t set;
	int r;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	publisher->event = event;
	r = sd_event_add_time(
		event, &publisher->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, publisher);
	return r < 0 ? r : sd_event_source_set_enabled(publisher->timer, SD_EVENT_OFF);
}

void publisher_done(struct publisher *publisher)
{
	sd_event_source_unref(publisher->timer);
	stop_child(publisher);
	*publisher = (struct publisher){ .run_dir = -1 };
}
