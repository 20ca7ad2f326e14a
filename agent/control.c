/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/control.h"
#include "agent/core/changes.h"
#include "agent/core/varlink.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/log.h"
#include "agent/util/memory.h"

#define SOCKET_MODE 0660
#define SOCKET_GROUP "ipipdirect"
#define BESIDE "." CONTROL_SOCKET ".new"

/* After the agent's own work. */
#define PRIORITY 100

/*
 * Whoever takes nothing of an answer for so many ticks is let go. Where there was no descriptor for a client, the next
 * one is accepted after one.
 */
#define TICK_USEC (1000 * 1000)
#define STALLED_MAX 30

#define PATIENCE_PASSES 5 /* less than a second, with the pauses of main.c */

enum waits {
	WAITS_NOT,
	WAITS_RESYNC,
	WAITS_RELOAD,
	WAITS_MODE,
	WAITS_ATTACH,
	WAITS_DETACH,
};

struct client {
	struct control *control;
	sd_event_source *source; /* owns the socket */
	int fd;
	uid_t uid;
	char *in; /* NULL while nothing is half read */
	size_t n_in;
	bool eof;
	char *out; /* NULL while everything is sent */
	size_t n_out, sent;
	unsigned int stalled; /* ticks without progress */
	enum waits waits;     /* for the end of a pass */
	unsigned int passes;  /* that it waited for, incomplete */
	size_t tunnels;       /* with WAITS_MODE */
	bool monitors;
	uint64_t lost; /* events */
	bool dead;     /* free it when nobody uses it any more */
};

struct control {
	const struct control_agent *agent;
	sd_event *event; /* borrowed */
	sd_event_source *listener;
	sd_event_source *tick;
	int run_dir;
	dev_t dev; /* the socket's file */
	ino_t ino;
	struct client *clients[CONTROL_CLIENTS_MAX];
	size_t n_clients;
	size_t n_monitors;
	size_t queued;   /* bytes, of all */
	json_t *picture; /* after the last pass; NULL: nobody watches */
};

/* ---- what goes out ---- */

static void client_free(struct client *client)
{
	struct control *control = client->control;

	for (size_t i = 0; i < control->n_clients; i++)
		if (control->clients[i] == client)
			control->clients[i] = control->clients[--control->n_clients];
	if (client->monitors && --control->n_monitors == 0) {
		json_decref(control->picture);
		control->picture = NULL;
		memory_give_back();
	}
	control->queued -= client->n_out - client->sent;
	(void)sd_event_source_disable_unref(client->source);
	free(client->in);
	free(client->out);
	free(client);
}

static bool has_output(const struct client *client)
{
	return client->out != NULL;
}

/* Until then no further call is looked at, so that there is one answer in memory at most. */
static bool is_busy(const struct client *client)
{
	return has_output(client) || client->waits != WAITS_NOT || client->monitors;
}

static bool has_message(const struct client *client)
{
	return client->in && memchr(client->in, '\0', client->n_in);
}

static void arm_tick(struct control *control)
{
	int enabled;

	if (sd_event_source_get_enabled(control->tick, &enabled) < 0 || enabled != SD_EVENT_OFF)
		return;
	(void)sd_event_source_set_time_relative(control->tick, TICK_USEC);
	(void)sd_event_source_set_enabled(control->tick, SD_EVENT_ONESHOT);
}

/* Sends what the socket takes. */
static void client_flush(struct client *client)
{
	while (client->sent < client->n_out && !client->dead) {
		ssize_t n = send(client->fd, client->out + client->sent,
			client->n_out - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			client->dead = errno != EAGAIN;
			return;
		}
		client->sent += (size_t)n;
		client->stalled = 0;
		client->control->queued -= (size_t)n;
	}
	free(client->out);
	client->out = NULL;
	client->n_out = client->sent = 0;
}

/* Takes the text, whose NUL goes along. */
static int client_queue(struct client *client, char *text)
{
	size_t size = strlen(text) + 1, left = client->n_out - client->sent;
	_cleanup_free_ char *whole = text;
	char *both;

	if (left > 0) {
		both = malloc(left + size);
		if (!both)
			return -ENOMEM;
		memcpy(both, client->out + client->sent, left);
		memcpy(both + left, text, size);
		free(whole);
		whole = both;
	}
	free(client->out);
	client->out = TAKE_PTR(whole);
	client->n_out = left + size;
	client->sent = 0;
	client->control->queued += size;
	return 0;
}

/* Takes the reference. Whoever cannot be answered is let go: he must not wait for ever. */
static void client_send(struct client *client, json_t *message)
{
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;

	json_decref(message);
	if (client->dead) {
		free(text);
	} else if (!text || client_queue(client, text) < 0) {
		client->dead = true;
	} else {
		client_flush(client);
		if (has_output(client))
			arm_tick(client->control);
	}
}

static void send_error(struct client *client, const char *name, json_t *parameters)
{
	client_send(client, varlink_error(name, parameters));
}

static void send_failed(struct client *client, int r)
{
	send_error(
		client, VARLINK_IPIPDIRECT ".Failed", json_pack("{s:s}", "message", strerror(-r)));
}

/* ---- events ---- */

static struct timespec wall_clock(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return now;
}

static void send_event(struct client *client, json_t *event)
{
	client_send(client, varlink_reply(json_pack("{s:o}", "event", event), true));
}

static json_t *make_resync(const char *reason, uint64_t lost)
{
	struct timespec now = wall_clock();

	return event_make("resync", &now,
		json_pack("{s:s, s:I}", "reason", reason, "lost", (json_int_t)lost));
}

/*
 * A slow reader is told so when there is room again, before what happens then. Whoever reads the status file at a mark
 * shall find there what he was not told.
 */
static void catch_up(struct client *client)
{
	const struct control_agent *agent = client->control->agent;

	if (client->lost == 0 || has_output(client))
		return;
	agent->publish(agent->userdata);
	send_event(client, make_resync("slow-reader", client->lost));
	client->lost = 0;
}

/* Borrows the event. */
static void offer(struct client *client, json_t *event)
{
	if (!client->monitors || client->dead)
		return;
	catch_up(client);
	if (client->lost > 0 || client->n_out - client->sent > CONTROL_MONITOR_MAX)
		client->lost++;
	else
		send_event(client, json_incref(event));
}

/* ---- calls ---- */

/* Takes the status and answers with one part of it, or with all. */
static void send_part(struct client *client, json_t *status, const char *part, const char *name)
{
	json_t *value = part ? json_object_get(status, part) : status;

	client_send(client, varlink_reply(json_pack("{s:O}", name, value), false));
	json_decref(status);
}

static void call_read(struct client *client, const struct varlink_call *call)
{
	const struct control *control = client->control;
	json_t *status;

	if (control->queued >= CONTROL_QUEUE_MAX) {
		send_error(client, VARLINK_IPIPDIRECT ".Busy", json_object());
		return;
	}
	status = control->agent->status(control->agent->userdata);
	if (call->method == VARLINK_LIST_TUNNELS)
		send_part(client, status, "tunnels", "tunnels");
	else if (call->method == VARLINK_LIST_NAMESPACES)
		send_part(client, status, "namespaces", "namespaces");
	else
		send_part(client, status, NULL, "status");
	memory_give_back();
}

static void call_monitor(struct client *client)
{
	struct control *control = client->control;

	if (!control->picture)
		control->picture = control->agent->picture(control->agent->userdata);
	control->agent->publish(control->agent->userdata);
	client->monitors = true;
	control->n_monitors++;
	if (!control->picture)
		client->dead = true;
	send_event(client, make_resync("begin", 0));
}

static int call_resync(struct client *client, bool oneway)
{
	const struct control_agent *agent = client->control->agent;
	int r = agent->resync(agent->userdata);

	if (r == 0 && !oneway)
		client->waits = WAITS_RESYNC;
	return r;
}

static int call_reload(struct client *client, bool oneway)
{
	const struct control_agent *agent = client->control->agent;
	json_t *why = NULL;
	int r = agent->reload(agent->userdata, &why);

	if (r == 0 && !oneway)
		client->waits = WAITS_RELOAD;
	if (!why)
		return r;
	if (oneway)
		json_decref(why);
	else
		send_error(client, VARLINK_IPIPDIRECT ".ConfigRefused", why);
	return 0;
}

static int call_set_mode(struct client *client, const struct varlink_call *call)
{
	const struct control_agent *agent = client->control->agent;
	json_t *parameters = call->parameters;
	const char *netns = json_string_value(json_object_get(parameters, "netns"));
	const char *ifname = json_string_value(json_object_get(parameters, "ifname"));
	const char *name = json_string_value(json_object_get(parameters, "mode"));
	enum maps_mode mode = MAPS_MODE_DIRECT;
	size_t tunnels;
	int r;

	if (name)
		(void)maps_mode_parse(name, &mode); /* it was checked */
	r = agent->set_mode(agent->userdata, netns, ifname, name ? &mode : NULL,
		json_is_true(json_object_get(parameters, "until_reload")), &tunnels);
	if (call->oneway)
		return r;
	if (r == -ENOENT)
		send_error(client, VARLINK_IPIPDIRECT ".TunnelNotFound",
			json_pack("{s:s, s:s}", "netns", netns, "ifname", ifname));
	else if (r == -E2BIG)
		send_error(client, VARLINK_IPIPDIRECT ".TooManyOverrides",
			json_pack("{s:i}", "max", OVERRIDES_MAX));
	if (r < 0)
		return r == -ENOENT || r == -E2BIG ? 0 : r;
	client->waits = WAITS_MODE;
	client->tunnels = tunnels;
	return 0;
}

static int call_attach(struct client *client, const struct varlink_call *call)
{
	const struct control_agent *agent = client->control->agent;
	const char *ifname = json_string_value(json_object_get(call->parameters, "ifname"));
	int r = agent->attach(agent->userdata, ifname);

	if (call->oneway)
		return r;
	if (r == -ENODEV)
		send_error(client, VARLINK_IPIPDIRECT ".LinkNotFound",
			json_pack("{s:s}", "ifname", ifname));
	else if (r == -E2BIG)
		send_error(client, VARLINK_IPIPDIRECT ".TooManyInterfaces",
			json_pack("{s:i}", "max", PLACEMENT_MAX));
	else if (r == 0)
		client->waits = WAITS_ATTACH;
	return r == -ENODEV || r == -E2BIG ? 0 : r;
}

static int call_detach(struct client *client, bool oneway)
{
	const struct control_agent *agent = client->control->agent;
	int r = agent->detach(agent->userdata);

	if (r == 0 && !oneway)
		client->waits = WAITS_DETACH;
	return r;
}

static int call_change(struct client *client, const struct varlink_call *call)
{
	if (call->method == VARLINK_ATTACH)
		return call_attach(client, call);
	if (call->method == VARLINK_DETACH)
		return call_detach(client, call->oneway);
	if (call->method == VARLINK_RESYNC)
		return call_resync(client, call->oneway);
	if (call->method == VARLINK_RELOAD)
		return call_reload(client, call->oneway);
	return call_set_mode(client, call);
}

/* Borrows the call. */
static void serve(struct client *client, const struct varlink_call *call)
{
	int r;

	if (call->error) {
		if (!call->oneway)
			client_send(client, json_incref(call->error));
	} else if (varlink_changes(call->method)) {
		if (client->uid == 0) {
			r = call_change(client, call);
			if (r < 0 && !call->oneway)
				send_failed(client, r);
		} else if (!call->oneway) {
			send_error(client, VARLINK_IPIPDIRECT ".PermissionDenied", json_object());
		}
	} else if (call->oneway) {
		return; /* only asks */
	} else if (call->method == VARLINK_GET_INFO) {
		client_send(client, varlink_info());
	} else if (call->method == VARLINK_GET_INTERFACE_DESCRIPTION) {
		client_send(client, varlink_description(call));
	} else if (call->method == VARLINK_MONITOR) {
		call_monitor(client);
	} else {
		call_read(client, call);
	}
}

/* ---- what comes in ---- */

static void client_read(struct client *client)
{
	size_t room = VARLINK_MESSAGE_MAX + 1 - client->n_in;
	ssize_t n;

	if (!client->in)
		client->in = malloc(VARLINK_MESSAGE_MAX + 1);
	if (!client->in) {
		client->dead = true;
		return;
	}
	n = room > 0 ? recv(client->fd, client->in + client->n_in, room, MSG_DONTWAIT) : -1;
	if (room > 0 && n < 0)
		client->dead = errno != EAGAIN && errno != EINTR;
	if (n == 0)
		client->eof = true;
	if (n > 0)
		client->n_in += (size_t)n;
	/* Larger than a message may be: its end is not looked for. */
	if (client->n_in == VARLINK_MESSAGE_MAX + 1 && !has_message(client))
		client->dead = true;
}

/* The first message in the buffer, which there is. */
static void take_message(struct client *client)
{
	size_t size = strnlen(client->in, client->n_in);
	struct varlink_call call = { 0 };
	int r = varlink_parse(client->in, size, &call);

	client->n_in -= size + 1;
	memmove(client->in, client->in + size + 1, client->n_in);
	if (client->n_in == 0) {
		free(client->in);
		client->in = NULL;
	}
	if (r < 0) {
		log_debug("control socket: a client of uid %u sent no call: %s",
			(unsigned int)client->uid, strerror(-r));
		client->dead = true;
		return;
	}
	serve(client, &call);
	varlink_call_done(&call);
}

/* What to be woken for. What is still in the buffer has its turn as soon as others had theirs. */
static void watch(struct client *client)
{
	uint32_t events = 0;

	if (!is_busy(client) && !client->eof && !has_message(client))
		events |= EPOLLIN;
	if (has_output(client) || (has_message(client) && !is_busy(client)))
		events |= EPOLLOUT;
	if (sd_event_source_set_io_events(client->source, events) < 0)
		client->dead = true;
}

/*
 * After anything happened. One call a turn: an answer about thousands of tunnels takes its time, and
 * others, the agent's own work first, have theirs in between. May free the client.
 */
static void client_go_on(struct client *client)
{
	if (!client->dead && !is_busy(client) && has_message(client))
		take_message(client);
	if (client->eof && !is_busy(client) && !has_message(client))
		client->dead = true;
	if (!client->dead)
		watch(client);
	if (client->dead)
		client_free(client);
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct client *client = userdata;

	(void)source;
	(void)fd;
	client_flush(client);
	if (client->monitors)
		catch_up(client);
	if ((revents & EPOLLIN) && !is_busy(client) && !has_message(client))
		client_read(client);
	else if (revents & (EPOLLHUP | EPOLLERR))
		/* Nobody is there to read an answer; what he said before still counts. */
		client->dead = client->dead || is_busy(client) || !has_message(client);
	client_go_on(client);
	return 0;
}

/* ---- who comes ---- */

static int get_uid(int fd, uid_t *ret)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	*ret = peer.uid;
	return 0;
}

/* Says so, if that takes no waiting. */
static void turn_away(int fd)
{
	json_auto_t *error = varlink_error(VARLINK_IPIPDIRECT ".TooManyClients",
		json_pack("{s:i}", "max", CONTROL_CLIENTS_MAX));
	_cleanup_free_ char *text = error ? json_dumps(error, JSON_COMPACT) : NULL;

	if (text)
		(void)send(fd, text, strlen(text) + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int welcome(struct control *control, int *fd, uid_t uid)
{
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	*client = (struct client){ .control = control, .fd = *fd, .uid = uid };
	r = sd_event_add_io(control->event, &client->source, *fd, EPOLLIN, on_client, client);
	if (r < 0) {
		free(client);
		return r;
	}
	control->clients[control->n_clients++] = client;
	if ((r = sd_event_source_set_priority(client->source, PRIORITY)) < 0 ||
		(r = sd_event_source_set_io_fd_own(client->source, true)) < 0) {
		client_free(client);
		return r;
	}
	(void)TAKE_FD(*fd);
	return 0;
}

static int on_connect(sd_event_source *source, int listener, uint32_t revents, void *userdata)
{
	struct control *control = userdata;
	_cleanup_close_ int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	size_t max = CONTROL_CLIENTS_MAX;
	uid_t uid = (uid_t)-1;
	int r;

	(void)revents;
	if (fd < 0) {
		/* No descriptors left: it would ring on and on. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
			arm_tick(control);
		}
		return 0;
	}
	r = get_uid(fd, &uid);
	if (r < 0)
		return 0;
	if (uid != 0)
		max -= CONTROL_CLIENTS_ROOT;
	if (control->n_clients >= max)
		turn_away(fd);
	else
		(void)welcome(control, &fd, uid);
	return 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct control *control = userdata;
	bool again = false;

	(void)source;
	(void)usec;
	(void)sd_event_source_set_enabled(control->listener, SD_EVENT_ON);
	for (size_t i = control->n_clients; i-- > 0;) {
		struct client *client = control->clients[i];

		/* Whoever watches may take his time: he costs no more than his bound. */
		if (!has_output(client) || client->monitors)
			continue;
		if (++client->stalled > STALLED_MAX)
			client_free(client);
		else
			again = true;
	}
	if (again)
		arm_tick(control);
	return 0;
}

/* ---- the agent's side ---- */

/* A namespace that cannot be read just now is no concern of who attaches or detaches. */
static bool is_complete(const struct client *client, int result)
{
	const struct control_agent *agent = client->control->agent;

	if (client->waits == WAITS_ATTACH || client->waits == WAITS_DETACH)
		return agent->is_placed(agent->userdata);
	if (result == 0 && client->waits != WAITS_MODE)
		return agent->has_size(agent->userdata);
	return result == 0;
}

/*
 * A namespace that comes or goes while it is read is nothing to trouble anybody with: the pass is repeated
 * soon, after pauses that double. Who waits is told when it stays so.
 */
static bool waits_on(struct client *client, int result)
{
	return result == -EAGAIN && !is_complete(client, result) &&
	       ++client->passes < PATIENCE_PASSES;
}

static void answer_waiting(struct client *client, int result)
{
	const struct control_agent *agent = client->control->agent;
	enum waits waits = client->waits;
	bool complete = is_complete(client, result);
	json_auto_t *status = NULL;
	const char *path;
	json_t *reply = NULL;

	client->waits = WAITS_NOT;
	client->passes = 0;
	/* Where it is to be attached is kept, and done when it can be. */
	if (result < 0 && result != -EAGAIN && waits != WAITS_ATTACH && waits != WAITS_DETACH) {
		send_failed(client, result);
		return;
	}
	switch (waits) {
	case WAITS_NOT:
		return;
	case WAITS_RESYNC:
	case WAITS_DETACH:
		reply = json_pack("{s:b}", "complete", complete);
		break;
	case WAITS_RELOAD:
		path = agent->config_path(agent->userdata);
		reply = json_pack("{s:o, s:b}", "config", path ? status_text(path) : json_null(),
			"complete", complete);
		break;
	case WAITS_MODE:
		reply = json_pack(
			"{s:I, s:b}", "tunnels", (json_int_t)client->tunnels, "complete", complete);
		break;
	case WAITS_ATTACH:
		status = agent->status(agent->userdata);
		reply = json_pack("{s:O, s:b}", "interfaces", json_object_get(status, "interfaces"),
			"complete", complete);
		break;
	}
	client_send(client, varlink_reply(reply, false));
}

/* From the last to the first: a client that goes has another take its place. */
static void offer_all(struct control *control, json_t *event)
{
	for (size_t i = control->n_clients; i-- > 0;) {
		struct client *client = control->clients[i];

		if (!client->monitors)
			continue;
		offer(client, event);
		client_go_on(client);
	}
}

static void tell_changes(struct control *control)
{
	struct timespec now = wall_clock();
	json_t *picture = control->agent->picture(control->agent->userdata);
	json_auto_t *changes = picture ? changes_make(control->picture, picture, &now) : NULL;
	json_t *event;
	size_t i;

	if (!changes) {
		json_decref(picture);
		control_tell(control, "resync",
			json_pack("{s:s, s:i}", "reason", "no-memory", "lost", 0));
		return;
	}
	json_decref(control->picture);
	control->picture = picture;
	json_array_foreach(changes, i, event) offer_all(control, event);
}

bool control_is_awaited(const struct control *control)
{
	for (size_t i = 0; control && i < control->n_clients; i++)
		if (control->clients[i]->waits != WAITS_NOT)
			return true;
	return false;
}

void control_passed(struct control *control, int result)
{
	struct client *waiting[CONTROL_CLIENTS_MAX];
	size_t n = 0;

	if (!control)
		return;
	if (control->n_monitors > 0)
		tell_changes(control);
	/* First who: one that was answered may go on to wait for the next pass, and must not be taken to wait for this. */
	for (size_t i = 0; i < control->n_clients; i++)
		if (control->clients[i]->waits != WAITS_NOT &&
			!waits_on(control->clients[i], result))
			waiting[n++] = control->clients[i];
	for (size_t i = 0; i < n; i++) {
		answer_waiting(waiting[i], result);
		client_go_on(waiting[i]);
	}
}

void control_tell(struct control *control, const char *type, json_t *more)
{
	struct timespec now = wall_clock();
	json_auto_t *event = NULL;

	if (!control || control->n_monitors == 0) {
		json_decref(more);
		return;
	}
	event = event_make(type, &now, more);
	if (event)
		offer_all(control, event);
}

/*
 * The group's, where there is such a group and we may give it away; else our own group's. As the group's own
 * user we have given it already, and the unit forbids the system call.
 */
static void give_to_group(int run_dir, const char *name)
{
	const struct group *group = getgrnam(SOCKET_GROUP);

	if (group && group->gr_gid != getegid() &&
		fchownat(run_dir, name, (uid_t)-1, group->gr_gid, AT_SYMLINK_NOFOLLOW) < 0)
		log_debug("cannot give " CONTROL_SOCKET " to group " SOCKET_GROUP ": %s",
			strerror(errno));
}

/*
 * Bound and made ready beside its place, then renamed: it is never there with other rights, and what
 * had its name, a symbolic link too, is replaced and not followed.
 */
static int listen_in(int run_dir, struct stat *ret_file, int *ret_fd)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t mask;
	int r;

	if (fd < 0)
		return -errno;
	/* bind() knows no directory by descriptor, and the path may be longer than an address. */
	(void)snprintf(
		address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" BESIDE, run_dir);
	if (unlinkat(run_dir, BESIDE, 0) < 0 && errno != ENOENT)
		return -errno;
	mask = umask(0777 & ~SOCKET_MODE);
	r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	(void)umask(mask);
	if (r < 0)
		return r;
	give_to_group(run_dir, BESIDE);
	if (listen(fd, SOMAXCONN) < 0 ||
		fstatat(run_dir, BESIDE, ret_file, AT_SYMLINK_NOFOLLOW) < 0 ||
		renameat(run_dir, BESIDE, run_dir, CONTROL_SOCKET) < 0) {
		r = -errno;
		(void)unlinkat(run_dir, BESIDE, 0);
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int add_sources(struct control *control, int *fd)
{
	int r;

	r = sd_event_add_io(control->event, &control->listener, *fd, EPOLLIN, on_connect, control);
	if (r < 0)
		return r;
	r = sd_event_source_set_io_fd_own(control->listener, true);
	if (r < 0)
		return r;
	(void)TAKE_FD(*fd);
	if ((r = sd_event_source_set_priority(control->listener, PRIORITY)) < 0 ||
		(r = sd_event_add_time(control->event, &control->tick, CLOCK_MONOTONIC, 0,
			 TICK_USEC / 2, on_tick, control)) < 0)
		return r;
	return sd_event_source_set_enabled(control->tick, SD_EVENT_OFF);
}

int control_open(
	sd_event *event, int run_dir, const struct control_agent *agent, struct control **ret)
{
	struct control *control = calloc(1, sizeof(*control));
	_cleanup_close_ int fd = -1;
	struct stat file;
	int r;

	if (!control)
		return -ENOMEM;
	*control = (struct control){ .agent = agent, .event = event, .run_dir = run_dir };
	r = listen_in(run_dir, &file, &fd);
	if (r == 0) {
		control->dev = file.st_dev;
		control->ino = file.st_ino;
		r = add_sources(control, &fd);
	}
	if (r < 0) {
		control_close(control, false);
		return r;
	}
	*ret = control;
	return 0;
}

void control_close(struct control *control, bool stays)
{
	struct stat file;

	if (!control)
		return;
	while (control->n_clients > 0)
		client_free(control->clients[0]);
	(void)sd_event_source_disable_unref(control->listener);
	(void)sd_event_source_disable_unref(control->tick);
	json_decref(control->picture);
	if (!stays && control->ino != 0 &&
		fstatat(control->run_dir, CONTROL_SOCKET, &file, AT_SYMLINK_NOFOLLOW) == 0 &&
		file.st_dev == control->dev && file.st_ino == control->ino)
		(void)unlinkat(control->run_dir, CONTROL_SOCKET, 0);
	free(control);
}
