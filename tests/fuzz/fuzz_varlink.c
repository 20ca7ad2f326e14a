/* SPDX-License-Identifier: MIT */
/*
 * The control socket, a real one, with any bytes of one client: in pieces of any size, read at once or
 * only at the end, as root or as somebody else. Another look at the same bytes says what the calls in them
 * are; so many answers come, in that order, each a reply or an error, and exactly what root asked for is
 * done. What is held meanwhile is bounded, and all of it is given back.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/control.h"
#include "agent/core/varlink.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

/* AddressSanitizer's; gcc 12 comes without the header. */
size_t __sanitizer_get_current_allocated_bytes(void);

/* Buffers of 64 KiB come and go: what is kept of them to notice late use costs more than all the rest. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=2";
}

#define NOBODY 65534
#define REPEAT 0x02 /* in an input: "0x02 N BYTE" is N times 512 of that byte */
#define REPEAT_SIZE 512
#define SAID_MAX (256 * 1024)

/* One message that comes, one that goes beside the one that is being made, and what keeps them. */
#define HELD_MAX ((size_t)(VARLINK_MESSAGE_MAX + 64 * 1024))

enum {
	AS_NOBODY = 1 << 0,
	READS_LATE = 1 << 1,
	SAYS_END = 1 << 2,
	PASS_FAILS = 1 << 3,
	IN_PIECES = 1 << 4, /* the size is in the other bits of the next byte */
};

/* ---- the agent behind the socket: it notes what it was asked to do ---- */

struct asked {
	size_t resyncs, reloads, modes, places;
	bool pass_is_due;
};

static struct asked asked;

static json_t *get_status(void *userdata)
{
	(void)userdata;
	return json_pack("{s:i, s:[], s:[], s:[{s:s}]}", "schema_version", 1, "tunnels",
		"interfaces", "namespaces", "label", "host");
}

static json_t *get_picture(void *userdata)
{
	(void)userdata;
	return json_pack("{s:{}, s:{}, s:{}, s:{}}", "namespace", "tunnel", "row", "interface");
}

static void do_publish(void *userdata)
{
	(void)userdata;
}

static int do_resync(void *userdata)
{
	(void)userdata;
	asked.resyncs++;
	asked.pass_is_due = true;
	return 0;
}

static int do_reload(void *userdata, json_t **ret_why)
{
	(void)userdata;
	(void)ret_why;
	asked.reloads++;
	asked.pass_is_due = true;
	return 0;
}

static const char *get_config_path(void *userdata)
{
	(void)userdata;
	return NULL;
}

static int do_set_mode(void *userdata, const char *netns, const char *ifname,
	const enum maps_mode *mode, bool until_reload, size_t *ret_tunnels)
{
	(void)userdata;
	(void)until_reload;
	CHECK(netns && ifname);
	CHECK(!mode || *mode == MAPS_MODE_DIRECT || *mode == MAPS_MODE_SHADOW ||
		*mode == MAPS_MODE_TUNNEL);
	asked.modes++;
	asked.pass_is_due = true;
	*ret_tunnels = strlen(netns);
	return 0;
}

static int do_attach(void *userdata, const char *ifname)
{
	(void)userdata;
	(void)ifname;
	asked.places++;
	asked.pass_is_due = true;
	return 0;
}

static int do_detach(void *userdata)
{
	return do_attach(userdata, NULL);
}

static bool is_so(void *userdata)
{
	(void)userdata;
	return true;
}

static const struct control_agent fake_agent = {
	.status = get_status,
	.picture = get_picture,
	.publish = do_publish,
	.resync = do_resync,
	.reload = do_reload,
	.config_path = get_config_path,
	.set_mode = do_set_mode,
	.attach = do_attach,
	.detach = do_detach,
	.is_placed = is_so,
	.has_size = is_so,
};

static sd_event *event;
static struct control *control;
static char run_path[] = "/tmp/fuzz-varlink-XXXXXX";
static int run_dir = -1;

static void close_all(void)
{
	control_close(control, false);
	sd_event_unref(event);
	(void)close(run_dir);
	(void)rmdir(run_path);
}

/* Once: making the socket costs more than talking through it. */
static void open_once(void)
{
	if (control)
		return;
	CHECK(mkdtemp(run_path) && chmod(run_path, 0755) == 0);
	run_dir = open(run_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(run_dir >= 0);
	CHECK(sd_event_new(&event) >= 0);
	CHECK(control_open(event, run_dir, &fake_agent, &control) == 0);
	CHECK(fchmodat(run_dir, CONTROL_SOCKET, 0666, 0) == 0);
	CHECK(atexit(close_all) == 0);
}

static int connect_as(bool nobody)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK(fd >= 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path),
		"/proc/self/fd/%d/" CONTROL_SOCKET, run_dir);
	CHECK(!nobody || seteuid(NOBODY) == 0);
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(!nobody || seteuid(0) == 0);
	return fd;
}

/* ---- what is to be expected ---- */

enum answer {
	ANSWER_NONE,
	ANSWER_REPLY,
	ANSWER_ERROR,
	ANSWER_STREAM, /* nothing after it is looked at */
	ANSWER_END,    /* that was no call */
};

struct expected {
	const char *at, *end;
	bool root;
	bool ended; /* the connection */
	struct asked asked;
};

static size_t depth_of(json_t *value)
{
	size_t deepest = 0, i;
	const char *key;
	json_t *item;

	if (json_is_object(value))
		json_object_foreach(value, key, item) deepest =
			depth_of(item) > deepest ? depth_of(item) : deepest;
	else if (json_is_array(value))
		json_array_foreach(value, i, item) deepest =
			depth_of(item) > deepest ? depth_of(item) : deepest;
	else
		return 0;
	return deepest + 1;
}

static bool is_flag(json_t *call, const char *name)
{
	json_t *value = json_object_get(call, name);

	return !value || json_is_boolean(value);
}

static bool is_one_of(json_t *value, const char *const *names)
{
	for (size_t i = 0; names[i]; i++)
		if (json_is_string(value) && json_string_length(value) == strlen(names[i]) &&
			strcmp(json_string_value(value), names[i]) == 0)
			return true;
	return false;
}

static bool may_be_left_out(json_t *value)
{
	return !value || json_is_null(value);
}

static bool sets_a_mode(json_t *parameters)
{
	static const char *const modes[] = { "direct", "shadow", "tunnel", NULL };
	json_t *mode = json_object_get(parameters, "mode"),
	       *until = json_object_get(parameters, "until_reload");

	return json_is_string(json_object_get(parameters, "netns")) &&
	       json_is_string(json_object_get(parameters, "ifname")) &&
	       (may_be_left_out(mode) || is_one_of(mode, modes)) &&
	       (may_be_left_out(until) || json_is_boolean(until)) &&
	       json_object_size(parameters) == 2 + (size_t) !!mode + (size_t) !!until;
}

static bool names_an_interface(json_t *parameters)
{
	json_t *ifname = json_object_get(parameters, "ifname");

	return (may_be_left_out(ifname) || json_is_string(ifname)) &&
	       json_object_size(parameters) == (size_t) !!ifname;
}

static enum answer expect_change(struct expected *expected, size_t *counter, bool fits)
{
	if (!fits || !expected->root)
		return ANSWER_ERROR;
	++*counter;
	return ANSWER_REPLY;
}

static enum answer expect_read(const char *name, json_t *parameters, bool more)
{
	static const char *const interfaces[] = { VARLINK_SERVICE, VARLINK_IPIPDIRECT, NULL };
	static const char *const reads[] = { VARLINK_SERVICE ".GetInfo",
		VARLINK_IPIPDIRECT ".GetStatus", VARLINK_IPIPDIRECT ".ListTunnels",
		VARLINK_IPIPDIRECT ".ListNamespaces" };

	if (strcmp(name, VARLINK_SERVICE ".GetInterfaceDescription") == 0)
		return json_object_size(parameters) == 1 &&
				       is_one_of(
					       json_object_get(parameters, "interface"), interfaces)
			       ? ANSWER_REPLY
			       : ANSWER_ERROR;
	if (json_object_size(parameters) > 0)
		return ANSWER_ERROR;
	if (strcmp(name, VARLINK_IPIPDIRECT ".Monitor") == 0)
		return more ? ANSWER_STREAM : ANSWER_ERROR;
	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		if (strcmp(name, reads[i]) == 0)
			return ANSWER_REPLY;
	return ANSWER_ERROR;
}

static enum answer expect_call(struct expected *expected, json_t *call)
{
	json_t *parameters = json_object_get(call, "parameters");
	const char *name = json_string_value(json_object_get(call, "method"));
	bool more = json_is_true(json_object_get(call, "more"));

	if (json_is_true(json_object_get(call, "upgrade")))
		return ANSWER_ERROR;
	if (strcmp(name, VARLINK_IPIPDIRECT ".Resync") == 0)
		return expect_change(
			expected, &expected->asked.resyncs, json_object_size(parameters) == 0);
	if (strcmp(name, VARLINK_IPIPDIRECT ".Reload") == 0)
		return expect_change(
			expected, &expected->asked.reloads, json_object_size(parameters) == 0);
	if (strcmp(name, VARLINK_IPIPDIRECT ".SetMode") == 0)
		return expect_change(expected, &expected->asked.modes, sets_a_mode(parameters));
	if (strcmp(name, VARLINK_IPIPDIRECT ".Attach") == 0)
		return expect_change(
			expected, &expected->asked.places, names_an_interface(parameters));
	if (strcmp(name, VARLINK_IPIPDIRECT ".Detach") == 0)
		return expect_change(
			expected, &expected->asked.places, json_object_size(parameters) == 0);
	return expect_read(name, parameters, more);
}

static enum answer expect_message(struct expected *expected, const char *text, size_t size)
{
	json_auto_t *call = NULL;
	json_t *parameters;
	enum answer answer;
	bool oneway;

	if (size <= VARLINK_MESSAGE_MAX)
		call = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	parameters = json_object_get(call, "parameters");
	oneway = json_is_true(json_object_get(call, "oneway"));
	if (!json_is_object(call) || depth_of(call) > VARLINK_DEPTH_MAX ||
		!json_is_string(json_object_get(call, "method")) ||
		!(may_be_left_out(parameters) || json_is_object(parameters)) ||
		!is_flag(call, "oneway") || !is_flag(call, "more") || !is_flag(call, "upgrade") ||
		(oneway && json_is_true(json_object_get(call, "more"))))
		return ANSWER_END;
	answer = expect_call(expected, call);
	return oneway ? ANSWER_NONE : answer;
}

/* The next answer that comes; ANSWER_END: none does any more. */
static enum answer expect_next(struct expected *expected)
{
	while (!expected->ended && expected->at < expected->end) {
		size_t left = (size_t)(expected->end - expected->at);
		const char *nul = memchr(expected->at, '\0', left);
		const char *text = expected->at;
		enum answer answer;

		if (!nul)
			break;
		expected->at = nul + 1;
		answer = expect_message(expected, text, (size_t)(nul - text));
		expected->ended = answer == ANSWER_END || answer == ANSWER_STREAM;
		if (answer != ANSWER_NONE)
			return answer;
	}
	return ANSWER_END;
}

/* ---- the client ---- */

static char answers[64 * 1024];

struct client {
	int fd;
	uint8_t flags;
	size_t n_in; /* of `answers` */
	bool streams, ended;
	struct expected expected;
};

static void take_reply(struct client *client, const char *text, size_t size)
{
	json_auto_t *reply = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	bool continues = json_is_true(json_object_get(reply, "continues"));
	enum answer answer = client->streams ? ANSWER_STREAM : expect_next(&client->expected);
	bool is_error = json_object_get(reply, "error") != NULL;

	CHECK(json_is_object(reply) && json_is_object(json_object_get(reply, "parameters")));
	CHECK(json_object_size(reply) == 1 + (size_t)is_error + (size_t)continues);
	CHECK(answer == ANSWER_REPLY || answer == ANSWER_ERROR || answer == ANSWER_STREAM);
	/* A pass that failed is an error to those who waited for it. */
	if (answer == ANSWER_REPLY && !(client->flags & PASS_FAILS))
		CHECK(!is_error && !continues);
	if (answer == ANSWER_ERROR)
		CHECK(is_error && !continues);
	client->streams = answer == ANSWER_STREAM;
	CHECK(client->streams == continues);
}

/* Whether there were any. */
static bool take_replies(struct client *client)
{
	bool any = false;
	ssize_t n;
	char *nul;

	while ((n = recv(client->fd, answers + client->n_in, sizeof(answers) - client->n_in,
			MSG_DONTWAIT)) > 0) {
		client->n_in += (size_t)n;
		any = true;
		while ((nul = memchr(answers, '\0', client->n_in))) {
			take_reply(client, answers, (size_t)(nul - answers));
			client->n_in -= (size_t)(nul + 1 - answers);
			memmove(answers, nul + 1, client->n_in);
		}
		CHECK(client->n_in < sizeof(answers));
	}
	CHECK(client->n_in == 0);
	return any;
}

/* Until nothing is left to do. */
static void run_agent(uint8_t flags)
{
	for (;;) {
		while (sd_event_run(event, 0) > 0)
			;
		if (!asked.pass_is_due)
			return;
		asked.pass_is_due = false;
		control_passed(control, flags & PASS_FAILS ? -EIO : 0);
		control_tell(control, "config-reloaded", json_pack("{s:n}", "config"));
	}
}

static void say(struct client *client, const char *text, size_t size, size_t piece)
{
	size_t held = __sanitizer_get_current_allocated_bytes();

	for (size_t at = 0; at < size && !client->ended;) {
		ssize_t n = send(client->fd, text + at, size - at < piece ? size - at : piece,
			MSG_NOSIGNAL | MSG_DONTWAIT);

		bool full = n < 0 && errno == EAGAIN;

		client->ended = n < 0 && !full;
		if (n > 0)
			at += (size_t)n;
		run_agent(client->flags);
		CHECK(__sanitizer_get_current_allocated_bytes() < held + HELD_MAX);
		if (!(client->flags & READS_LATE))
			(void)take_replies(client);
		/* Both wait for the other, or he watches and is not listened to: that is all he can say. */
		if (full && (client->flags & READS_LATE || client->streams))
			break;
	}
}

/* ---- an input ---- */

static char said[SAID_MAX];

/* Behind its flags it is what is said, but for repeated bytes. */
static size_t unfold(struct input *input)
{
	size_t size = 0;

	while (input->size > 0) {
		uint8_t byte = take_byte(input);
		size_t n = 1;

		if (byte == REPEAT && input->size >= 2) {
			n = (size_t)take_byte(input) * REPEAT_SIZE;
			byte = take_byte(input);
		}
		if (n > sizeof(said) - size)
			n = sizeof(said) - size;
		memset(said + size, byte, n);
		size += n;
	}
	return size;
}

static void judge(const struct client *client)
{
	struct expected rest = client->expected;
	enum answer answer = client->streams ? ANSWER_END : expect_next(&rest);

	/* What he did not take is not missing. */
	if (!(client->flags & READS_LATE))
		CHECK(answer == ANSWER_END);
	while (answer != ANSWER_END && answer != ANSWER_STREAM)
		answer = expect_next(&rest);
	if (client->flags & READS_LATE) {
		CHECK(asked.resyncs <= rest.asked.resyncs);
		CHECK(asked.reloads <= rest.asked.reloads);
		CHECK(asked.modes <= rest.asked.modes);
		CHECK(asked.places <= rest.asked.places);
	} else {
		CHECK(asked.resyncs == rest.asked.resyncs);
		CHECK(asked.reloads == rest.asked.reloads);
		CHECK(asked.modes == rest.asked.modes);
		CHECK(asked.places == rest.asked.places);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	uint8_t flags = take_byte(&input);
	size_t piece = flags & IN_PIECES ? (size_t)take_byte(&input) + 1 : SIZE_MAX;
	struct client client = { .flags = flags };
	size_t n;

	open_once();
	n = unfold(&input);
	asked = (struct asked){ 0 };
	client.expected = (struct expected){
		.at = said, .end = said + n, .root = geteuid() == 0 && !(flags & AS_NOBODY)
	};
	client.fd = connect_as(geteuid() == 0 && (flags & AS_NOBODY));
	run_agent(flags);
	/* A byte at a time is for what is short. */
	say(&client, said, n, n > 4096 && piece < 64 ? 64 : piece);
	if (flags & SAYS_END) {
		CHECK(shutdown(client.fd, SHUT_WR) == 0 || errno == ENOTCONN);
		run_agent(flags);
	}
	/* The rest of what it had to say may not have had room. */
	do
		run_agent(flags);
	while (take_replies(&client));
	judge(&client);
	CHECK(close(client.fd) == 0);
	run_agent(flags);
	return 0;
}
