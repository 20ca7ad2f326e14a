/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The messages of the control socket: calls are parsed and checked against what the method takes,
 * replies and errors are made. Pure: bytes come from and go to agent/control.c. The wire format is
 * Varlink's (https://varlink.org/Method-Call), the interface schema/io.ipipdirect.varlink.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define VARLINK_MESSAGE_MAX 65536 /* bytes of a call, without its NUL */
#define VARLINK_DEPTH_MAX 16      /* arrays and objects in each other */

#define VARLINK_SERVICE "org.varlink.service"
#define VARLINK_IPIPDIRECT "io.ipipdirect"

enum varlink_method {
	/* org.varlink.service */
	VARLINK_GET_INFO,
	VARLINK_GET_INTERFACE_DESCRIPTION,
	/* io.ipipdirect */
	VARLINK_GET_STATUS,
	VARLINK_LIST_TUNNELS,
	VARLINK_LIST_NAMESPACES,
	VARLINK_RESYNC,
	VARLINK_RELOAD,
	VARLINK_SET_MODE,
	VARLINK_ATTACH,
	VARLINK_DETACH,
	VARLINK_MONITOR,
	VARLINK_METHOD_COUNT,
};

struct varlink_call {
	enum varlink_method method;
	bool oneway; /* no answer, not even an error */
	bool more;
	json_t *parameters; /* as the method takes them, none unknown; NULL: none were given */
	json_t *error; /* not NULL: the answer instead; `method` and `parameters` say nothing */
};

/*
 * Parses a message without its NUL. 0; -EBADMSG: this is no call, and nothing sensible can be answered;
 * -ENOMEM. A call that cannot be made (unknown method, wrong parameters) is a call with an `error`.
 */
int varlink_parse(const char *text, size_t size, struct varlink_call *ret);
void varlink_call_done(struct varlink_call *call);

/* Whether the method changes anything. */
bool varlink_changes(enum varlink_method method);

/* Messages; the reference to `parameters` is taken, NULL in it or in the result means no memory. */
json_t *varlink_reply(json_t *parameters, bool continues);
json_t *varlink_error(const char *name, json_t *parameters);

/* The answers that need nobody but this library. NULL: no memory. */
json_t *varlink_info(void);
json_t *varlink_description(const struct varlink_call *call);
