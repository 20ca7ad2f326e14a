/* SPDX-License-Identifier: MIT */
/*
 * reload: has the running agent read its configuration anew, and tells what came of it. The agent is
 * known by the lock it holds, never by a number in a file alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"

#define RELOAD_SCHEMA_VERSION 1 /* schema/ctl-reload.schema.json */

/* A pass over thousands of namespaces comes before the answer. */
#define WAIT_MAX_MS 30000
#define PAUSE_MIN_MS 20
#define PAUSE_MAX_MS 500

static const json_t *agent_of(const struct agent_view *view)
{
	return json_object_get(view->document, "agent");
}

/* Whether the process holds an exclusive flock() on the file; proc(5). */
static int holds_lock(pid_t pid, ino_t inode, bool *ret)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/locks", "re");
	char line[256];
	bool found = false;

	if (!file)
		return -errno;
	while (!found && fgets(line, sizeof(line), file)) {
		uintmax_t ino;
		int holder;

		/* "1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF" */
		found = sscanf(line, "%*s FLOCK %*s WRITE %d %*x:%*x:%ju ", &holder, &ino) == 2 &&
			holder == pid && ino == inode;
	}
	*ret = found;
	return ferror(file) ? -EIO : 0;
}

static int fail_stopped(const struct ctl *ctl)
{
	return ctl_fail(ctl, CTL_UNREACHABLE, "agent-unreachable", CTL_HINT_START,
		"the agent is not running");
}

static int fail_errno(const struct ctl *ctl, int r, const char *what)
{
	bool forbidden = r == -EPERM || r == -EACCES;

	return ctl_fail(ctl, CTL_FAILED, forbidden ? "permission" : "failed",
		forbidden ? CTL_HINT_ROOT : NULL, "cannot %s: %s", what, strerror(-r));
}

/*
 * A handle on the process that wrote the status and holds the lock. The handle comes first: whoever
 * holds the lock then is the one it is for, whatever becomes of the number.
 */
static int open_agent(const struct ctl *ctl, const struct agent_view *view, int *ret_fd)
{
	pid_t pid = (pid_t)json_number(agent_of(view), "pid");
	_cleanup_close_ int fd = -1;
	struct stat st;
	bool holds = false;
	int r;

	fd = pid > 0 ? pidfd_open(pid, 0) : -1;
	if (fd < 0 && pid > 0 && errno != ESRCH)
		return fail_errno(ctl, -errno, "find the agent");
	r = agent_stat_lock(&st);
	if (r == 0)
		r = holds_lock(pid, st.st_ino, &holds);
	if (r < 0)
		return fail_errno(ctl, r, "see who holds the agent's lock");
	if (fd < 0 || !holds)
		return ctl_fail(ctl, CTL_FAILED, "no-status", "try again in a moment",
			"%s is not of the agent that is running", view->path);
	*ret_fd = TAKE_FD(fd);
	return CTL_OK;
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until the agent says that it made a pass after a further reload. */
static int wait_for_answer(
	const struct ctl *ctl, int pidfd, json_int_t reloads, struct agent_view *ret)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	int64_t deadline = now_ms() + WAIT_MAX_MS;
	int pause = PAUSE_MIN_MS;

	while (now_ms() < deadline) {
		_cleanup_(agent_view_done) struct agent_view view = { 0 };

		if (poll(&end, 1, pause) > 0)
			return ctl_fail(ctl, CTL_UNREACHABLE, "agent-unreachable", CTL_HINT_START,
				"the agent ended meanwhile");
		if (agent_read(ctl, &view) < 0)
			return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
		if (json_number(agent_of(&view), "reloads") > reloads) {
			*ret = view;
			view = (struct agent_view){ 0 };
			return CTL_OK;
		}
		pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
	}
	return ctl_fail(ctl, CTL_FAILED, "timeout", "see 'ipipdirectctl status'",
		"the agent has not answered for %d s", WAIT_MAX_MS / 1000);
}

/* "FILE: line 3, column 5: mode: expected …" from the parts in the status. */
static int fail_refused(const struct ctl *ctl, json_t *error)
{
	char where[64] = "";
	const char *place = json_text(error, "place");

	if (json_is_integer(json_object_get(error, "line")))
		(void)snprintf(where, sizeof(where),
			"line %" JSON_INTEGER_FORMAT ", column %" JSON_INTEGER_FORMAT ": ",
			json_number(error, "line"), json_number(error, "column"));
	return ctl_fail_with(ctl, CTL_FAILED, "config-refused", json_incref(error),
		"refused, the former configuration holds: %s: %s%s%s%s", json_text(error, "file"),
		where, place, place[0] ? ": " : "", json_text(error, "message"));
}

/* It may not have been able to do all that the configuration says. */
static void print_problems(const json_t *agent)
{
	const json_t *problem;
	size_t i;

	json_array_foreach(json_object_get(agent, "problems"), i, problem)
	{
		print_escaped(stderr, "problem: %s", json_string_value(problem) ?: "");
		(void)fputc('\n', stderr);
	}
}

static int report(const struct ctl *ctl, const struct agent_view *view)
{
	const json_t *agent = agent_of(view);
	const char *path = json_string_value(json_object_get(agent, "config"));
	json_t *error = json_object_get(agent, "config_error");

	if (json_is_object(error))
		return fail_refused(ctl, error);
	if (ctl->json)
		return ctl_print_json(ctl,
			json_pack("{s:i, s:O, s:O, s:O}", "schema_version", RELOAD_SCHEMA_VERSION,
				"config", json_object_get(agent, "config"), "config_loaded_at",
				json_object_get(agent, "config_loaded_at"), "reloads",
				json_object_get(agent, "reloads")));
	if (path)
		print_escaped(stdout, "the agent has taken %s", path);
	else
		(void)fputs("the agent has found no configuration: the defaults hold", stdout);
	(void)fputc('\n', stdout);
	print_problems(agent);
	return CTL_OK;
}

static int run_reload(const struct ctl *ctl)
{
	_cleanup_(agent_view_done) struct agent_view view = { 0 }, after = { 0 };
	_cleanup_close_ int pidfd = -1;
	json_t *reloads;
	int status;

	if (agent_read(ctl, &view) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (view.life == AGENT_STOPPED)
		return fail_stopped(ctl);
	if (!view.document)
		return agent_fail(ctl, &view);
	reloads = json_object_get(agent_of(&view), "reloads");
	if (!json_is_integer(reloads))
		return ctl_fail(ctl, CTL_FAILED, "status-invalid", "systemctl reload ipipdirect",
			"the agent is of a version that does not tell of reloads");
	status = open_agent(ctl, &view, &pidfd);
	if (status != CTL_OK)
		return status;
	if (pidfd_send_signal(pidfd, SIGHUP, NULL, 0) < 0)
		return errno == ESRCH ? fail_stopped(ctl)
				      : fail_errno(ctl, -errno, "signal the agent");
	status = wait_for_answer(ctl, pidfd, json_integer_value(reloads), &after);
	return status != CTL_OK ? status : report(ctl, &after);
}

const struct ctl_command ctl_reload_command = {
	.name = "reload",
	.summary = "have the agent read its configuration anew",
	.help = "Sends SIGHUP to the running agent and waits until it has taken its\n"
		"configuration and made a pass with it, or refused it and kept the former one.\n"
		"Problems that it has then are told on the standard error.\n"
		"\n"
		"Exit status: 2 when it was refused, 3 when the agent is not running.\n",
	.run = run_reload,
};
