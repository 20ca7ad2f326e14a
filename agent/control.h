/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The control socket: who may connect, framing, limits, and what is owed to whom. What a call means is
 * the agent's, struct control_agent; how a message looks is core/varlink.h's.
 *
 * Nothing here blocks: what a client does not take waits in memory, up to a bound. The agent's own work
 * comes first, by the priority of the event sources.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "agent/core/config.h"

#define CONTROL_SOCKET "io.ipipdirect"

#define CONTROL_CLIENTS_MAX 64
#define CONTROL_CLIENTS_ROOT 8 /* of these, kept for uid 0 */
/* Of all clients together; one document may go beyond. */
#define CONTROL_QUEUE_MAX ((size_t)64 * 1024 * 1024)
/* Of one that watches: what comes beyond is lost, and that is said. */
#define CONTROL_MONITOR_MAX ((size_t)256 * 1024)

struct control;

/* What the agent does for its clients. Integers are 0 or -errno. */
struct control_agent {
	json_t *(*status)(void *userdata);  /* a new reference; NULL: no memory */
	json_t *(*picture)(void *userdata); /* core/changes.h */
	/* The status file says then what the last pass found, if it can be written. */
	void (*publish)(void *userdata);
	/* These ask for a pass, of which control_passed() tells. */
	int (*resync)(void *userdata);
	/* -EINVAL: refused, *ret_why (a new reference) has what ConfigRefused says. */
	int (*reload)(void *userdata, json_t **ret_why);
	const char *(*config_path)(void *userdata); /* NULL: there is none */
	/* `mode`: NULL takes it back. -ENOENT: there is no such tunnel; -E2BIG: too many overrides. */
	int (*set_mode)(void *userdata, const char *netns, const char *ifname,
		const enum maps_mode *mode, bool until_reload, size_t *ret_tunnels);
	/* NULL: as configured. -ENODEV: there is no such interface; -E2BIG: too many of them. */
	int (*attach)(void *userdata, const char *ifname);
	int (*detach)(void *userdata);
	/* Whether the program is where the last of these two wanted it, as far as it can be. */
	bool (*is_placed)(void *userdata);
	/* Whether the maps are as large as the configuration wants them. */
	bool (*has_size)(void *userdata);
	void *userdata;
};

/*
 * Listens in the agent's directory, which must be locked: what has the socket's name there is replaced.
 * `agent` is borrowed.
 */
int control_open(
	sd_event *event, int run_dir, const struct control_agent *agent, struct control **ret);
/*
 * Removes the socket, if it is still ours, unless it shall stay: by that others see that an agent did not end as it
 * should. NULL does nothing.
 */
void control_close(struct control *control, bool stays);

/* Whether anybody waits for the end of a pass. NULL: nobody. */
bool control_is_awaited(const struct control *control);

/* A pass is over, with what it returned: whoever waits or watches is told. NULL does nothing. */
void control_passed(struct control *control, int result);

/* An event that no picture shows. The reference to `more` is taken. NULL does nothing. */
void control_tell(struct control *control, const char *type, json_t *more);
