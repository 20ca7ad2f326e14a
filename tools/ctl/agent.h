/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the agent says about itself (its status file) and whether it lives (the lock it holds). Both
 * are looked for in $RUNTIME_DIRECTORY, else /run/ipipdirect, as the agent does.
 */

#include <jansson.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "tools/ctl/ctl.h"

#define AGENT_SOCKET                                                                               \
	"io.ipipdirect" /* in the run directory; gone when an agent ended as it should */

enum agent_life {
	AGENT_RUNNING,
	AGENT_STOPPED,
	AGENT_UNKNOWN, /* not asked (--status-file), or not allowed to ask */
};

struct agent_view {
	enum agent_life life;
	json_t *document;  /* the status; NULL: there is none, see `error` */
	time_t written_at; /* of the file */
	int error;         /* -errno: -ENOENT no file, -EBADMSG not a status that we can read */
	char *path;        /* of the file */
	char message[200]; /* with -EBADMSG: what is wrong */
};

/* Reads both. A missing file or a dead agent is data, not failure: 0 or -ENOMEM. */
int agent_read(const struct ctl *ctl, struct agent_view *ret);
void agent_view_done(struct agent_view *view);

/* Ends a command that cannot do without the document, as ctl_fail(). */
int agent_fail(const struct ctl *ctl, const struct agent_view *view);

/*
 * Keeps agents from starting for as long as *ret_fd is open (-1: no agent was ever here).
 * -EWOULDBLOCK: one is running.
 */
int agent_lock(int *ret_fd);

/* Opens the agent's run directory. -ENOENT: no agent was ever here. */
int agent_open_run_directory(int *ret_fd);

/*
 * How the reader came by the document, as it stands in the output of every command that shows one:
 * agent_running (null: unknown) and file_age in seconds. NULL: no memory.
 */
json_t *agent_view_json(const struct agent_view *view);

/*
 * A whole command that shows a part of the document: by `print`, or with -j what `make` makes of it. Says
 * when no agent runs, whose last words these are.
 */
int agent_show(const struct ctl *ctl, json_t *(*make)(const struct agent_view *view),
	int (*print)(const struct ctl *ctl, const json_t *document));

/* The namespace of the document with that label; NULL: none. */
const json_t *agent_netns(const json_t *document, const char *label);

/* Whether it is what the ipip module puts into each namespace, `tunl0`: nobody means that by "tunnels". */
bool agent_is_fallback(const json_t *tunnel);

/* Its passes come at least so often, in seconds, as the document says. */
uint32_t agent_resync_interval(const json_t *document);

/* A status that is older, in seconds, is of an agent that hangs, or has no room to write. */
#define AGENT_STALE_AFTER(resync_interval) (3 * (time_t)(resync_interval) + 10)

/* Whether an agent runs, and yet has not written its status for so long. */
bool agent_is_stale(const struct agent_view *view);

/*
 * Whether the agent that wrote the document worked in the network namespace that we are in, so that its interface indices
 * mean something here. 1, 0, -ENOENT: the document does not say, or another -errno.
 */
int agent_is_of_netns(const json_t *document);

/* The interface of the document with that index; NULL: none. */
const json_t *agent_interface(const json_t *document, uint32_t ifindex);

/* Whether an operator had the agent take the program off: it attaches to nothing by itself. */
bool agent_is_detached(const struct agent_view *view);

/* Whether packets out of that interface of the document find the default gateway without a route lookup. */
bool agent_has_shortcut(const struct agent_view *view, const json_t *interface);

/*
 * Exit status for a command that showed the document: CTL_UNREACHABLE when the agent is not
 * running.
 */
int agent_exit(const struct agent_view *view);

/* The value at `key` of an object, tolerating anything: never NULL, resp. 0. */
const char *json_text(const json_t *object, const char *key);
json_int_t json_number(const json_t *object, const char *key);
/* "YYYY-MM-DDTHH:MM:SSZ" at `key`; 0: none. */
time_t json_time_at(const json_t *object, const char *key);
