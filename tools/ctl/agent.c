/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/core/status.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"

#define RUN_DIR_DEFAULT "/run/ipipdirect"
#define LOCK_FILE "agent.lock" /* root's */
#define LIFE_FILE                                                                                  \
	"lock" /* of who may look; anybody who may can hold it, so root does not believe it */

static const char *run_directory(void)
{
	return getenv("RUNTIME_DIRECTORY") ?: RUN_DIR_DEFAULT;
}

static int run_path(const char *name, char **ret)
{
	return asprintf(ret, "%s/%s", run_directory(), name) < 0 ? -ENOMEM : 0;
}

int agent_open_run_directory(int *ret_fd)
{
	int fd = open(run_directory(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int open_lock(const char *name, int *ret_fd)
{
	_cleanup_free_ char *path = NULL;
	int fd, r;

	r = run_path(name, &path);
	if (r < 0) {
		path = NULL;
		return r;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/*
 * The agent holds the lock exclusively while it runs. We share it: readers and detach do not take
 * each other for agents.
 */
int agent_lock(int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	int r;

	r = open_lock(LOCK_FILE, &fd);
	if (r == -EACCES || r == -EPERM || r == -ENOENT)
		r = open_lock(LIFE_FILE, &fd);
	if (r < 0 && r != -ENOENT)
		return r;
	if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static enum agent_life ask_life(void)
{
	_cleanup_close_ int fd = -1;

	switch (agent_lock(&fd)) {
	case 0:
		return AGENT_STOPPED;
	case -EWOULDBLOCK:
		return AGENT_RUNNING;
	default:
		return AGENT_UNKNOWN;
	}
}

static int check_document(const json_t *document, struct agent_view *view)
{
	static const char *const arrays[] = { "interfaces", "tunnels", "entries", "namespaces" };
	json_int_t version = json_number(document, "schema_version");
	bool good = json_is_object(json_object_get(document, "agent")) &&
		    json_is_object(json_object_get(document, "map"));

	if (version > 0 && version != STATUS_SCHEMA_VERSION) {
		(void)snprintf(view->message, sizeof(view->message),
			"it has schema version %" JSON_INTEGER_FORMAT ", expected %d", version,
			STATUS_SCHEMA_VERSION);
		return -EBADMSG;
	}
	for (size_t i = 0; i < ELEMENTS_OF(arrays); i++)
		good = good && json_is_array(json_object_get(document, arrays[i]));
	if (version <= 0 || !good) {
		(void)snprintf(view->message, sizeof(view->message), "it is no status document");
		return -EBADMSG;
	}
	return 0;
}

static int read_document(struct agent_view *view)
{
	_cleanup_free_ char *text = NULL;
	json_auto_t *document = NULL;
	json_error_t at;
	struct stat st;
	size_t size;
	int r;

	r = file_read(view->path, STATUS_SIZE_MAX, &text, &size);
	if (r < 0)
		return r;
	document = json_loadb(text, size, JSON_REJECT_DUPLICATES, &at);
	if (!document) {
		(void)snprintf(
			view->message, sizeof(view->message), "line %d: %s", at.line, at.text);
		return -EBADMSG;
	}
	r = check_document(document, view);
	if (r < 0)
		return r;
	/* The file may have been replaced since; a younger time then does no harm. */
	if (stat(view->path, &st) == 0)
		view->written_at = st.st_mtime;
	view->document = json_incref(document);
	return 0;
}

int agent_read(const struct ctl *ctl, struct agent_view *ret)
{
	_cleanup_(agent_view_done) struct agent_view view = { .life = AGENT_UNKNOWN };
	int r;

	if (ctl->status_file) {
		view.path = strdup(ctl->status_file);
		r = view.path ? 0 : -ENOMEM;
	} else {
		r = run_path(STATUS_FILE, &view.path);
		if (r < 0)
			view.path = NULL;
	}
	if (r < 0)
		return r;
	if (!ctl->status_file)
		view.life = ask_life();
	view.error = read_document(&view);
	if (view.error == -ENOMEM)
		return -ENOMEM;
	*ret = view;
	view = (struct agent_view){ 0 };
	return 0;
}

void agent_view_done(struct agent_view *view)
{
	json_decref(view->document);
	free(view->path);
	*view = (struct agent_view){ 0 };
}

int agent_fail(const struct ctl *ctl, const struct agent_view *view)
{
	switch (view->error) {
	case -ENOENT:
		break;
	case -EACCES:
	case -EPERM:
		return ctl_fail(ctl, CTL_FAILED, "permission", CTL_HINT_READ, "%s: %s", view->path,
			strerror(-view->error));
	case -EBADMSG:
		return ctl_fail(ctl, CTL_FAILED, "status-invalid",
			"is it of another version of ipipdirect?", "%s: %s", view->path,
			view->message);
	default:
		return ctl_fail(ctl, CTL_FAILED, "failed", NULL, "%s: %s", view->path,
			strerror(-view->error));
	}
	if (ctl->status_file)
		return ctl_fail(ctl, CTL_FAILED, "not-found", NULL, "%s: there is no such file",
			view->path);
	if (view->life == AGENT_RUNNING)
		return ctl_fail(ctl, CTL_FAILED, "no-status", "try again in a moment",
			"the agent has not written %s yet", view->path);
	return ctl_fail(ctl, CTL_UNREACHABLE, "agent-unreachable", CTL_HINT_START,
		"the agent is not running and has left no %s", view->path);
}

json_t *agent_view_json(const struct agent_view *view)
{
	time_t age = time(NULL) - view->written_at;

	return json_pack("{s:o, s:I}", "agent_running",
		view->life == AGENT_UNKNOWN ? json_null()
					    : json_boolean(view->life == AGENT_RUNNING),
		"file_age", (json_int_t)(age < 0 ? 0 : age));
}

const json_t *agent_netns(const json_t *document, const char *label)
{
	const json_t *netns;
	size_t i;

	json_array_foreach(json_object_get(document, "namespaces"), i, netns)
	{
		if (strcmp(json_text(netns, "label"), label) == 0)
			return netns;
	}
	return NULL;
}

bool agent_is_fallback(const json_t *tunnel)
{
	return strcmp(json_text(tunnel, "reason"), "fallback-device") == 0;
}

uint32_t agent_resync_interval(const json_t *document)
{
	json_int_t said = json_number(json_object_get(document, "agent"), "resync_interval");

	if (said > 0 && said <= CONFIG_RESYNC_INTERVAL_MAX_S)
		return (uint32_t)said;
	return CONFIG_RESYNC_INTERVAL_DEFAULT_S;
}

bool agent_is_stale(const struct agent_view *view)
{
	return view->life == AGENT_RUNNING && view->document &&
	       time(NULL) - view->written_at >
		       AGENT_STALE_AFTER(agent_resync_interval(view->document));
}

int agent_is_of_netns(const json_t *document)
{
	const json_t *netns;
	struct stat st;
	size_t i;

	if (stat("/proc/self/ns/net", &st) < 0)
		return -errno;
	json_array_foreach(json_object_get(document, "namespaces"), i, netns)
	{
		if (json_is_null(json_object_get(netns, "nsid")))
			return (ino_t)json_number(netns, "inode") == st.st_ino;
	}
	return -ENOENT;
}

const json_t *agent_interface(const json_t *document, uint32_t ifindex)
{
	const json_t *interface;
	size_t i;

	json_array_foreach(json_object_get(document, "interfaces"), i, interface)
	{
		if (json_number(interface, "ifindex") == ifindex)
			return interface;
	}
	return NULL;
}

bool agent_is_detached(const struct agent_view *view)
{
	const json_t *agent = json_object_get(view->document, "agent");

	return json_is_true(json_object_get(json_object_get(agent, "placement"), "detached"));
}

bool agent_has_shortcut(const struct agent_view *view, const json_t *interface)
{
	return view->life != AGENT_STOPPED &&
	       strcmp(json_text(interface, "next_hop"), "shortcut") == 0;
}

int agent_exit(const struct agent_view *view)
{
	return view->life == AGENT_STOPPED ? CTL_UNREACHABLE : CTL_OK;
}

int agent_show(const struct ctl *ctl, json_t *(*make)(const struct agent_view *view),
	int (*print)(const struct ctl *ctl, const json_t *document))
{
	_cleanup_(agent_view_done) struct agent_view view = { 0 };
	int status;

	if (agent_read(ctl, &view) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (!view.document)
		return agent_fail(ctl, &view);
	status = ctl->json ? ctl_print_json(ctl, make(&view)) : print(ctl, view.document);
	if (status != CTL_OK)
		return status;
	if (view.life == AGENT_STOPPED)
		ctl_note(ctl, "the agent is not running: this is what it saw %s ago",
			HUMAN_DURATION(time(NULL) - view.written_at));
	return agent_exit(&view);
}

const char *json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

json_int_t json_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

time_t json_time_at(const json_t *object, const char *key)
{
	struct tm tm = { 0 };
	const char *end = strptime(json_text(object, key), "%Y-%m-%dT%H:%M:%SZ", &tm);

	return end && *end == '\0' ? timegm(&tm) : 0;
}
