/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/varlink.h"

#define INTERFACE "io.ipipdirect."

/* A pass over thousands of namespaces comes before some answers. */
#define WAIT_MAX_S 30
#define ANSWER_MAX ((size_t)256 * 1024 * 1024)
#define READ_SIZE ((size_t)64 * 1024)

void varlink_done(struct varlink *varlink)
{
	closep(&varlink->fd);
	free(varlink->in);
	*varlink = VARLINK_NONE;
}

static int fail_no_memory(const struct ctl *ctl)
{
	return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
}

static int fail_gone(const struct ctl *ctl)
{
	return ctl_fail(
		ctl, CTL_UNREACHABLE, "agent-unreachable", CTL_HINT_START, "the agent went away");
}

static int fail_connect(const struct ctl *ctl, int r)
{
	bool forbidden = r == -EACCES || r == -EPERM, gone = r == -ENOENT || r == -ECONNREFUSED;
	_cleanup_close_ int lock = -1;

	if (gone && agent_lock(&lock) == -EWOULDBLOCK)
		return ctl_fail(ctl, CTL_UNREACHABLE, "agent-unreachable",
			"see its log: journalctl -u ipipdirect",
			"the agent is running, but has no control socket");
	if (gone)
		return ctl_fail(ctl, CTL_UNREACHABLE, "agent-unreachable", CTL_HINT_START,
			"the agent is not running");
	return ctl_fail(ctl, CTL_FAILED, forbidden ? "permission" : "failed",
		forbidden ? CTL_HINT_READ : NULL, "cannot connect to the agent: %s", strerror(-r));
}

static int connect_agent(int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = WAIT_MAX_S };
	_cleanup_close_ int directory = -1, fd = -1;
	int r;

	r = agent_open_run_directory(&directory);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
		return -errno;
	/* The directory's path may be longer than an address. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" AGENT_SOCKET,
		directory);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int varlink_open(const struct ctl *ctl, struct varlink *ret)
{
	int fd = -1, r;

	r = connect_agent(&fd);
	if (r < 0)
		return fail_connect(ctl, r);
	*ret = VARLINK_NONE;
	ret->fd = fd;
	return CTL_OK;
}

static int send_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t n = send(fd, text, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Takes the reference. */
static int send_call(const struct ctl *ctl, struct varlink *varlink, const char *method,
	json_t *parameters, bool more)
{
	json_auto_t *call = json_pack("{s:s+, s:o, s:b}", "method", INTERFACE, method, "parameters",
		parameters, "more", more);
	_cleanup_free_ char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;
	int r;

	if (!text)
		return fail_no_memory(ctl);
	r = send_all(varlink->fd, text, strlen(text) + 1);
	/* Turned away, it said why before it closed. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		return ctl_fail(
			ctl, CTL_FAILED, "failed", NULL, "cannot call the agent: %s", strerror(-r));
	return CTL_OK;
}

/* "FILE: line 3, column 5: mode: expected …" */
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

/* "cannot …" for what the agent answered. */
static int fail_answer(const struct ctl *ctl, const char *name, json_t *parameters)
{
	const char *what = strrchr(name, '.') ? strrchr(name, '.') + 1 : name;

	if (strcmp(what, "ConfigRefused") == 0)
		return fail_refused(ctl, parameters);
	if (strcmp(what, "PermissionDenied") == 0)
		return ctl_fail(ctl, CTL_FAILED, "permission", CTL_HINT_ROOT,
			"the agent takes changes from root only");
	if (strcmp(what, "TunnelNotFound") == 0)
		return ctl_fail(ctl, CTL_FAILED, "not-found", "see 'ipipdirectctl tunnels'",
			"there is no tunnel %s in namespace %s", json_text(parameters, "ifname"),
			json_text(parameters, "netns"));
	if (strcmp(what, "TooManyOverrides") == 0)
		return ctl_fail(ctl, CTL_FAILED, "failed", "put them into the configuration",
			"%" JSON_INTEGER_FORMAT " tunnels have a mode of their own already",
			json_number(parameters, "max"));
	if (strcmp(what, "LinkNotFound") == 0)
		return ctl_fail(ctl, CTL_FAILED, "not-found", "see 'ip link'",
			"there is no interface %s", json_text(parameters, "ifname"));
	if (strcmp(what, "TooManyInterfaces") == 0)
		return ctl_fail(ctl, CTL_FAILED, "failed", "put them into the configuration",
			"the program is on %" JSON_INTEGER_FORMAT " interfaces besides already",
			json_number(parameters, "max"));
	if (strcmp(what, "MethodNotFound") == 0)
		return ctl_fail(ctl, CTL_FAILED, "failed", "systemctl restart ipipdirect",
			"the agent is of a version that cannot do that");
	if (strcmp(what, "TooManyClients") == 0 || strcmp(what, "Busy") == 0)
		return ctl_fail(ctl, CTL_FAILED, "busy", "try again in a moment",
			"the agent has too many clients");
	return ctl_fail(ctl, CTL_FAILED, "failed", NULL, "the agent answered %s%s%s", what,
		json_text(parameters, "message")[0] ? ": " : "", json_text(parameters, "message"));
}

/* The first message, when it is there: 1 and *ret. 0: not yet; -EBADMSG. */
static int take_message(struct varlink *varlink, json_t **ret)
{
	char *end = varlink->n_in > 0 ? memchr(varlink->in, '\0', varlink->n_in) : NULL;
	json_t *message;
	size_t size;

	if (!end)
		return 0;
	size = (size_t)(end - varlink->in);
	message = json_loadb(varlink->in, size, JSON_REJECT_DUPLICATES, NULL);
	varlink->n_in -= size + 1;
	memmove(varlink->in, end + 1, varlink->n_in);
	if (!json_is_object(message)) {
		json_decref(message);
		return -EBADMSG;
	}
	*ret = message;
	return 1;
}

/* 0; -EPIPE: the agent closed the connection; other -errno. */
static int read_more(struct varlink *varlink)
{
	ssize_t n;

	if (varlink->size - varlink->n_in < READ_SIZE) {
		size_t size = varlink->size > 0 ? 2 * varlink->size : 2 * READ_SIZE;
		char *in = size > ANSWER_MAX ? NULL : realloc(varlink->in, size);

		if (!in)
			return -ENOMEM;
		varlink->in = in;
		varlink->size = size;
	}
	n = recv(varlink->fd, varlink->in + varlink->n_in, varlink->size - varlink->n_in, 0);
	if (n < 0)
		return errno == EINTR ? 0 : errno == ECONNRESET ? -EPIPE : -errno;
	varlink->n_in += (size_t)n;
	return n == 0 ? -EPIPE : 0;
}

/* Borrows the message; *ret is a new reference to its parameters. */
static int take_answer(const struct ctl *ctl, const json_t *message, json_t **ret)
{
	const char *error = json_string_value(json_object_get(message, "error"));
	json_t *parameters = json_object_get(message, "parameters");

	if (error)
		return fail_answer(ctl, error, parameters);
	*ret = parameters ? json_incref(parameters) : json_object();
	return *ret ? CTL_OK : fail_no_memory(ctl);
}

static int fail_read(const struct ctl *ctl, int r)
{
	if (r == -EPIPE)
		return fail_gone(ctl);
	if (r == -EAGAIN)
		return ctl_fail(ctl, CTL_UNREACHABLE, "timeout", "see 'ipipdirectctl status'",
			"the agent has not answered for %d s", WAIT_MAX_S);
	return ctl_fail(ctl, CTL_FAILED, "failed", NULL, "cannot read the agent's answer: %s",
		strerror(-r));
}

int varlink_call(const struct ctl *ctl, struct varlink *varlink, const char *method,
	json_t *parameters, json_t **ret)
{
	json_auto_t *message = NULL;
	int status = send_call(ctl, varlink, method, parameters, false), r;

	if (status != CTL_OK)
		return status;
	while ((r = take_message(varlink, &message)) == 0) {
		r = read_more(varlink);
		if (r < 0)
			break;
	}
	return r < 0 ? fail_read(ctl, r) : take_answer(ctl, message, ret);
}

int varlink_observe(const struct ctl *ctl, struct varlink *varlink, const char *method)
{
	return send_call(ctl, varlink, method, json_object(), true);
}

int varlink_next(const struct ctl *ctl, struct varlink *varlink, const sigset_t *mask, json_t **ret)
{
	struct pollfd readable = { .fd = varlink->fd, .events = POLLIN };
	json_auto_t *message = NULL;
	int r;

	while ((r = take_message(varlink, &message)) == 0) {
		if (ppoll(&readable, 1, NULL, mask) < 0) {
			if (errno != EINTR)
				return fail_read(ctl, -errno);
			*ret = NULL;
			return CTL_OK;
		}
		r = read_more(varlink);
		if (r < 0)
			break;
	}
	return r < 0 ? fail_read(ctl, r) : take_answer(ctl, message, ret);
}
