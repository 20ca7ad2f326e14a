/* SPDX-License-Identifier: MIT */
/*
 * ipipdirectd: argv, wiring, exit codes. The event loop turns bells into passes; what a pass does is
 * in reconcile.c.
 */
#include <errno.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "agent/config_file.h"
#include "agent/control.h"
#include "agent/held_file.h"
#include "agent/kern/netns.h"
#include "agent/modes.h"
#include "agent/options.h"
#include "agent/placement_file.h"
#include "agent/prepare.h"
#include "agent/publish.h"
#include "agent/reconcile.h"
#include "agent/util/cleanup.h"
#include "agent/util/clock.h"
#include "agent/util/error.h"
#include "agent/util/file.h"
#include "agent/util/log.h"

#define RUN_DIR_DEFAULT "/run/ipipdirect"
#define LOCK_FILE "agent.lock" /* one agent at a time; nobody else may even open it */
#define LIFE_FILE "lock" /* by which those who may look, and no more, see that an agent runs */

/* After the bells, and before the clients (control.c). */
#define HEARING_PRIORITY 10

/* Bells come in swarms (one `ip netns add` and its set-up ring a dozen times): one pass for all. */
#define DEBOUNCE_USEC (10 * 1000)
#define RETRY_MIN_USEC (50 * 1000)
/* So soon it is mended, however long it lasted; the status may take another second (publish.c). */
#define RETRY_MAX_USEC (3 * USEC_PER_SEC)
#define LINKS_USEC (1000 * 1000)
#define NOTIFY_USEC (1000 * 1000)

/* What a plan changed may decide who has an address next; a world that stands still is at rest by then. */
#define FURTHER_MAX 2
/* The first pass is repeated so often without a pause. */
#define AT_ONCE 3

enum exit_status {
	EXIT_USAGE = 1,
	EXIT_FAILED = 2,
	EXIT_DEGRADED = 4,
};

struct agent {
	struct options options;
	struct config config;
	const char *config_path; /* the one in use; NULL: there is none */
	struct config_error config_error;
	bool config_is_unread; /* it was to be taken, and could not even be read just now */
	uint64_t reloads;      /* taken or refused */
	struct modes modes;
	struct reconciler reconciler;
	struct control_agent control_agent;
	struct control *control; /* NULL: there is none */
	sd_event *event;
	sd_event_source *pass_timer;
	sd_event_source *periodic_timer;
	sd_event_source *upkeep_timer;
	sd_event_source *links_timer;
	sd_event_source *hearing; /* behind the bells */
	bool pass_is_due;
	uint64_t pass_at_usec; /* with pass_is_due */
	uint64_t rung_usec;    /* a bell asks for a pass in so many; UINT64_MAX: none does */
	uint64_t retry_usec;   /* 0: the last pass needed none */
	bool has_failed;       /* the last pass, for good: what was put off is where it was */
	struct publisher publisher;
	unsigned int further; /* passes since the last bell, for what the one before changed */
	bool is_unsettled;    /* another one is to follow */
	bool is_ready_untold; /* to the manager */
	bool shows_life;      /* it holds LIFE_FILE */
	bool ended_well;      /* as it was told to */
	char notified[128];   /* what the service manager was told last */
	int run_dir, lock, life, bell_fd, own_bell_fd, mount_bell_fd, link_bell_fd;
};

static void agent_done(struct agent *agent)
{
	control_close(agent->control, !agent->ended_well);
	publisher_done(&agent->publisher);
	sd_event_source_unref(agent->pass_timer);
	sd_event_source_unref(agent->periodic_timer);
	sd_event_source_unref(agent->upkeep_timer);
	sd_event_source_unref(agent->links_timer);
	sd_event_source_unref(agent->hearing);
	sd_event_unref(agent->event);
	reconciler_done(&agent->reconciler);
	modes_done(&agent->modes);
	config_done(&agent->config);
	options_done(&agent->options);
	closep(&agent->run_dir);
	closep(&agent->lock);
	closep(&agent->life);
	closep(&agent->bell_fd);
	closep(&agent->own_bell_fd);
	closep(&agent->mount_bell_fd);
	closep(&agent->link_bell_fd);
}

/* The command line wins over the file. */
static int override_config(const struct options *options, struct config *config)
{
	if (options->resync_interval_s > 0)
		config->resync_interval_s = options->resync_interval_s;
	if (options->n_interfaces == 0)
		return 0;
	for (size_t i = 0; i < config->n_interfaces; i++)
		free(config->interfaces[i]);
	free(config->interfaces);
	config->n_interfaces = 0;
	config->interfaces = calloc(options->n_interfaces, sizeof(*config->interfaces));
	if (!config->interfaces)
		return -ENOMEM;
	for (size_t i = 0; i < options->n_interfaces; i++) {
		config->interfaces[i] = strdup(options->interfaces[i]);
		if (!config->interfaces[i])
			return -ENOMEM;
		config->n_interfaces++;
	}
	return 0;
}

/* Reads the configuration; `error` says why not. Only a path that was asked for must exist. */
static int load_config(struct agent *agent, struct config *ret, struct config_error *error)
{
	const char *path =
		agent->options.config_path ? agent->options.config_path : CONFIG_PATH_DEFAULT;
	_cleanup_(config_done) struct config config = { 0 };
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	r = config_file_read(path, &text, &size, error);
	if (r == -ENOENT && !agent->options.config_path) {
		agent->config_path = NULL;
		config_init(&config);
	} else if (r < 0) {
		return r;
	} else {
		agent->config_path = path;
		r = config_parse(text, size, &config, error);
		if (r < 0)
			return r;
	}
	r = override_config(&agent->options, &config);
	if (r < 0)
		return r;
	*ret = config;
	config = (struct config){ 0 };
	return 0;
}

static const char *config_name(const struct agent *agent)
{
	return agent->options.config_path ? agent->options.config_path : CONFIG_PATH_DEFAULT;
}

/* ipipdirectctl takes it, shared and for an instant, to see whether an agent holds it. */
static int take_lock(int fd)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	for (int i = 0; i < 20; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
	return -EWOULDBLOCK;
}

static const char *run_directory(void)
{
	return getenv("RUNTIME_DIRECTORY") ?: RUN_DIR_DEFAULT;
}

static int open_lock(const struct agent *agent, const char *name, mode_t mode, int *ret_fd)
{
	int fd = TEMP_FAILURE_RETRY(
		openat(agent->run_dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode));
	int r = fd < 0 ? -errno : 0;

	if (r < 0)
		log_error("cannot open %s/%s: %s", run_directory(), name, strerror(-r));
	*ret_fd = fd;
	return r;
}

/*
 * Whoever may open a file may lock it, so that must not keep an agent from working. It is tried again, now and then. But
 * where no agent had the other lock yet, since the boot, it may be one of before there was that: -EWOULDBLOCK.
 */
static int show_life(struct agent *agent, bool is_first)
{
	int r = take_lock(agent->life);

	if (r < 0 && is_first) {
		(void)unlinkat(agent->run_dir, LOCK_FILE, 0);
		return r;
	}
	agent->shows_life = r == 0;
	if (!agent->shows_life)
		log_warning("somebody holds %s/" LIFE_FILE
			    ": to those who are not root no agent seems to run",
			run_directory());
	return 0;
}

/* The earliest of all that ask for it. */
static int pass_in(struct agent *agent, uint64_t usec)
{
	/* Not sd_event_now(): that was some time ago, so that the pass would come too early. */
	uint64_t now = monotonic_usec();
	int r;

	if (agent->pass_is_due && agent->pass_at_usec <= now + usec)
		return 0;
	r = sd_event_source_set_time(agent->pass_timer, now + usec);
	if (r < 0)
		return r;
	agent->pass_is_due = true;
	agent->pass_at_usec = now + usec;
	return sd_event_source_set_enabled(agent->pass_timer, SD_EVENT_ONESHOT);
}

/* The manager ends who is not ready in time, so it is told again where that failed; not where nobody listens. */
static void notify_ready(struct agent *agent)
{
	int r = sd_notify(0, "READY=1");

	agent->is_ready_untold = r < 0 && r != -ECONNREFUSED && r != -ENOENT;
}

/* Only what is new: a manager that does not read would block us in time. */
static void notify_status(struct agent *agent)
{
	const struct reconciler *reconciler = &agent->reconciler;
	char text[sizeof(agent->notified)];

	if (agent->is_ready_untold)
		notify_ready(agent);
	(void)snprintf(text, sizeof(text), "STATUS=%zu tunnels, %zu rows, %zu namespaces%s",
		reconciler->tunnels.n, reconciler->have.n, reconciler->observer.snapshot.n_netns,
		reconciler_is_degraded(reconciler) ? "; degraded" : "");
	if (strcmp(text, agent->notified) == 0)
		return;
	memcpy(agent->notified, text, sizeof(text));
	(void)sd_notify(0, text);
}

/* Whoever loses his row leaves his address to others, which the next pass sees: no bell tells of it. */
static void note_changes(struct agent *agent, int r)
{
	bool changed = r == 0 && agent->reconciler.plan.n_ops > 0;

	agent->is_unsettled = changed && agent->further < FURTHER_MAX;
	agent->further = changed ? agent->further + 1 : 0;
}

/*
 * What the program was told may be believed again when the bells have been heard that rang meanwhile: the loop looks for
 * them first.
 */
static int on_prepare(sd_event_source *source, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	if (agent->reconciler.interfaces.suspended) /* once more the next time, if this fails */
		(void)sd_event_source_set_enabled(agent->hearing, SD_EVENT_ONESHOT);
	return 0;
}

static int on_hearing(sd_event_source *source, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	interfaces_resume(&agent->reconciler.interfaces);
	return 0;
}

static int run_pass(struct agent *agent)
{
	uint64_t begin = monotonic_usec();
	int r = reconciler_run(&agent->reconciler);

	log_debug("pass %" PRIu64 ": %" PRIu64 " us, %zu operations", agent->reconciler.passes,
		monotonic_usec() - begin, agent->reconciler.plan.n_ops);
	/* Whoever waits for a reload wants its outcome at work. */
	agent->reconciler.reloads = agent->reloads;

	if (r < 0 && r != -EAGAIN)
		log_about(LOG_ERR,
			&(const struct log_about){
				.id = LOG_ID_PASS_FAILED, .reason = strerror(-r) },
			"pass failed: %s; trying again", strerror(-r));
	if (r == 0 && !agent->config_is_unread) {
		agent->retry_usec = 0;
	} else {
		uint64_t max = agent->config.resync_interval_s * USEC_PER_SEC;

		if (max > RETRY_MAX_USEC)
			max = RETRY_MAX_USEC;
		agent->retry_usec = agent->retry_usec == 0 ? RETRY_MIN_USEC : agent->retry_usec * 2;
		if (agent->retry_usec > max)
			agent->retry_usec = max;
	}
	agent->has_failed = r < 0 && r != -EAGAIN;
	note_changes(agent, r);
	notify_status(agent);
	publisher_note_pass(&agent->publisher);
	/* What a client was answered, the file that he looks at next says as well. */
	if (control_is_awaited(agent->control))
		(void)publisher_publish(&agent->publisher);
	control_passed(agent->control, r);
	return r;
}

static int upkeep_in(struct agent *agent, uint64_t usec)
{
	int r;

	if (usec == UINT64_MAX)
		return sd_event_source_set_enabled(agent->upkeep_timer, SD_EVENT_OFF);
	r = sd_event_source_set_time_relative(agent->upkeep_timer, usec);
	return r < 0 ? r : sd_event_source_set_enabled(agent->upkeep_timer, SD_EVENT_ONESHOT);
}

static int run_upkeep(struct agent *agent)
{
	uint64_t now;
	int r = sd_event_now(agent->event, CLOCK_MONOTONIC, &now);

	return r < 0 ? r
		     : upkeep_in(agent, interfaces_look_after(&agent->reconciler.interfaces, now));
}

static int on_upkeep_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	return run_upkeep(userdata);
}

/*
 * Only where there are TCX links: the kernel does not say when one goes. Passes do not put it off, for whoever rings
 * has one as often as he likes.
 */
static int arm_links_timer(struct agent *agent)
{
	int r;

	if (!interfaces_have_links(&agent->reconciler.interfaces))
		return sd_event_source_set_enabled(agent->links_timer, SD_EVENT_OFF);
	r = sd_event_source_get_enabled(agent->links_timer, NULL);
	if (r != 0)
		return r < 0 ? r : 0;
	r = sd_event_source_set_time_relative(agent->links_timer, LINKS_USEC);
	return r < 0 ? r : sd_event_source_set_enabled(agent->links_timer, SD_EVENT_ONESHOT);
}

static int on_links_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;
	int r;

	(void)source;
	(void)usec;
	r = interfaces_check(&agent->reconciler.interfaces, ATTACHMENT_TCX) ? pass_in(agent, 0) : 0;
	return r < 0 ? r : arm_links_timer(agent);
}

/* What failed is tried again, and what was put off is done when its time has come. */
static int pass_later(struct agent *agent)
{
	uint64_t due = observer_due(&agent->reconciler.observer), now;
	uint64_t wait = reconciler_wait(&agent->reconciler);
	int r;

	r = sd_event_now(agent->event, CLOCK_MONOTONIC, &now);
	if (r > 0) /* the loop did not run yet */
		r = 0;
	if (r == 0 && agent->is_unsettled)
		r = pass_in(agent, 0);
	if (r == 0 && agent->retry_usec > 0)
		r = pass_in(agent, agent->retry_usec);
	if (r == 0 && agent->is_ready_untold)
		r = pass_in(agent, NOTIFY_USEC);
	if (r == 0 && wait < UINT64_MAX)
		r = pass_in(agent, wait);
	if (r == 0 && due > 0 && !agent->has_failed)
		r = pass_in(agent, due > now ? due - now : DEBOUNCE_USEC);
	return r;
}

static int arm_periodic(struct agent *agent)
{
	int r = sd_event_source_set_time_relative(
		agent->periodic_timer, agent->config.resync_interval_s * USEC_PER_SEC);

	return r < 0 ? r : sd_event_source_set_enabled(agent->periodic_timer, SD_EVENT_ONESHOT);
}

static int on_periodic_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;
	int r;

	(void)source;
	(void)usec;
	netns_watch_links(agent->link_bell_fd);
	agent->shows_life = agent->shows_life || flock(agent->life, LOCK_EX | LOCK_NB) == 0;
	reconciler_ring_all(&agent->reconciler);
	agent->further = 0;
	r = pass_in(agent, 0);
	return r < 0 ? r : arm_periodic(agent);
}

static void ring(const struct bell *bell, void *userdata)
{
	struct agent *agent = userdata;
	uint64_t asked;

	if (bell->overrun || bell->own_overrun) {
		log_notice("the kernel dropped netlink events: reading %s anew",
			bell->overrun ? "everything" : "the routes");
		control_tell(agent->control, "resync",
			json_pack("{s:s, s:i}", "reason", "kernel-overrun", "lost", 0));
	}
	if (upkeep_minds(&agent->reconciler.interfaces.upkeep, bell))
		(void)upkeep_in(agent, DEBOUNCE_USEC);
	asked = reconciler_ring(&agent->reconciler, bell);
	if (asked < agent->rung_usec)
		agent->rung_usec = asked;
}

/* A bell cuts a retry's wait short. */
static int on_bell(struct agent *agent, uint64_t usec)
{
	agent->retry_usec = 0;
	agent->further = 0;
	return pass_in(agent, usec > DEBOUNCE_USEC ? usec : DEBOUNCE_USEC);
}

static int on_netlink(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct agent *agent = userdata;
	int r;

	(void)source;
	(void)revents;
	agent->rung_usec = UINT64_MAX;
	r = events_read(fd, fd == agent->own_bell_fd ? EVENTS_OWN_NETNS : EVENTS_ALL_NETNS,
		agent->reconciler.observer.own_nsid, ring, agent);
	if (r < 0) {
		log_error("cannot read netlink events: %s", strerror(-r));
		return r;
	}
	return agent->rung_usec < UINT64_MAX ? on_bell(agent, agent->rung_usec) : 0;
}

static int on_mounts(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	(void)fd;
	(void)revents;
	netns_watch_links(agent->link_bell_fd);
	reconciler_ring_list(&agent->reconciler);
	/* It may have been the file system of the pins. Links are looked at each second as it is. */
	(void)interfaces_check(&agent->reconciler.interfaces, ATTACHMENT_CLSACT);
	return on_bell(agent, 0);
}

static int on_links(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	(void)revents;
	netns_read_link_bell(fd);
	reconciler_ring_list(&agent->reconciler);
	return on_bell(agent, 0);
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	(void)si;
	(void)userdata;
	(void)sd_notify(0, "STOPPING=1");
	log_notice("ending; what is attached goes on working");
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* For those who watch; -j of the commands says it alike. */
static void tell_reload(struct agent *agent, int r)
{
	if (r < 0)
		control_tell(agent->control, "config-refused",
			json_pack("{s:o}", "error",
				status_config_error(config_name(agent), &agent->config_error)));
	else
		control_tell(agent->control, "config-reloaded",
			json_pack("{s:o}", "config",
				agent->config_path ? status_text(agent->config_path)
						   : json_null()));
}

static int take_config(struct agent *agent)
{
	char text[CONFIG_ERROR_MAX];
	struct config config;
	int r;

	agent->reloads++;
	r = load_config(agent, &config, &agent->config_error);
	agent->config_is_unread = r < 0 && error_may_pass(r);
	if (r < 0) {
		(void)config_error_format(&agent->config_error, text);
		log_about(LOG_ERR,
			&(const struct log_about){ .id = LOG_ID_CONFIG_REFUSED, .reason = text },
			"%s: %s; the former configuration holds", config_name(agent), text);
		agent->reconciler.config_error = &agent->config_error;
		return r;
	}
	config_done(&agent->config);
	agent->config = config;
	agent->reconciler.config_path = agent->config_path;
	agent->reconciler.config_loaded_at = time(NULL);
	agent->reconciler.config_error = NULL;
	log_about(LOG_NOTICE, &(const struct log_about){ .id = LOG_ID_CONFIG_LOADED },
		"configuration loaded");
	r = modes_reloaded(&agent->modes);
	if (r < 0)
		log_error("cannot take back modes that hold until a reload: %s; continuing anyway",
			strerror(-r));
	return 0;
}

/* What came of it is in `ret_taken`; fails only where the agent cannot go on. */
static int reload(struct agent *agent, int *ret_taken)
{
	int taken, r;

	(void)sd_notify(0, "RELOADING=1");
	taken = take_config(agent);
	tell_reload(agent, taken);
	notify_ready(agent);
	reconciler_ring_at_once(&agent->reconciler);
	r = arm_periodic(agent);
	if (r < 0 || (r = on_bell(agent, 0)) < 0)
		return r;
	*ret_taken = taken;
	return 0;
}

/* What could not be read for want of something was not refused: it is read again with each pass. */
static int take_config_again(struct agent *agent)
{
	if (!agent->config_is_unread || take_config(agent) < 0)
		return 0;
	tell_reload(agent, 0);
	reconciler_ring_all(&agent->reconciler);
	return arm_periodic(agent);
}

static int on_pass_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;
	int r;

	(void)source;
	(void)usec;
	agent->pass_is_due = false;
	r = take_config_again(agent);
	if (r < 0)
		return r;
	(void)run_pass(agent);
	if ((r = run_upkeep(agent)) < 0 || (r = arm_links_timer(agent)) < 0)
		return r;
	r = publisher_publish_soon(&agent->publisher);
	if (r < 0)
		return r;
	return pass_later(agent);
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	int taken;

	(void)source;
	(void)si;
	return reload(userdata, &taken);
}

static void expect_status(struct agent *agent)
{
	if (publisher_takes_long(&agent->publisher))
		interfaces_suspend(&agent->reconciler.interfaces);
}

static json_t *control_status(void *userdata)
{
	struct agent *agent = userdata;

	expect_status(agent);
	return reconciler_status(&agent->reconciler);
}

static json_t *control_picture(void *userdata)
{
	struct agent *agent = userdata;

	expect_status(agent);
	return reconciler_picture(&agent->reconciler);
}

static void control_publish(void *userdata)
{
	struct agent *agent = userdata;

	publisher_catch_up(&agent->publisher);
}

static int control_resync(void *userdata)
{
	struct agent *agent = userdata;

	reconciler_ring_at_once(&agent->reconciler);
	agent->retry_usec = 0;
	agent->further = 0;
	return pass_in(agent, 0);
}

static int control_reload(void *userdata, json_t **ret_why)
{
	struct agent *agent = userdata;
	int taken, r;

	r = reload(agent, &taken);
	if (r < 0 || taken == 0)
		return r;
	/* This is answered without a pass. */
	(void)publisher_publish(&agent->publisher);
	*ret_why = status_config_error(config_name(agent), &agent->config_error);
	return *ret_why ? -EINVAL : -ENOMEM;
}

static const char *control_config_path(void *userdata)
{
	struct agent *agent = userdata;

	return agent->config_path;
}

static int control_set_mode(void *userdata, const char *netns, const char *ifname,
	const enum maps_mode *mode, bool until_reload, size_t *ret_tunnels)
{
	struct agent *agent = userdata;
	size_t n;
	int r;

	r = modes_set(
		&agent->modes, &agent->reconciler.tunnels, netns, ifname, mode, until_reload, &n);
	if (r < 0)
		return r;
	log_about(LOG_NOTICE,
		&(const struct log_about){ .id = LOG_ID_MODE, .netns = netns, .ifname = ifname },
		"netns %s, %s: mode %s", netns, ifname,
		mode ? maps_mode_name(*mode) : "as configured");
	agent->further = 0;
	r = pass_in(agent, 0);
	if (r < 0)
		return r;
	*ret_tunnels = n;
	return 0;
}

/* The file first: what is said to hold must outlive us. */
static int place(struct agent *agent, const struct placement *placement)
{
	int r = placement_store(agent->run_dir, placement);

	if (r < 0)
		return r;
	reconciler_place(&agent->reconciler, placement);
	agent->retry_usec = 0;
	return pass_in(agent, 0);
}

static int control_attach(void *userdata, const char *ifname)
{
	struct agent *agent = userdata;
	struct placement placement = { 0 };
	struct host_interface interface;
	int r = 0;

	if (ifname && strlen(ifname) >= IFNAMSIZ)
		return -ENODEV;
	if (ifname) {
		placement = agent->reconciler.interfaces.placement;
		r = rtnl_get_interface(agent->reconciler.rtnl, ifname, &interface);
	}
	/* By the name that it has, and not by one of its others. */
	if (r == 0 && ifname)
		r = placement_add(&placement, interface.name);
	if (r < 0)
		return r == -EINVAL ? -ENODEV : r;
	log_about(LOG_NOTICE, &(const struct log_about){ .id = LOG_ID_PLACED, .ifname = ifname },
		"attaching %s%s, as an operator wants", ifname ? "also to " : "as configured",
		ifname ?: "");
	return place(agent, &placement);
}

static int control_detach(void *userdata)
{
	const struct placement off = { .detached = true };

	log_about(LOG_NOTICE, &(const struct log_about){ .id = LOG_ID_PLACED },
		"detaching, as an operator wants, until \"ipipdirectctl attach\"");
	return place(userdata, &off);
}

static bool control_is_placed(void *userdata)
{
	struct agent *agent = userdata;

	return interfaces_are_placed(&agent->reconciler.interfaces);
}

static bool control_has_size(void *userdata)
{
	struct agent *agent = userdata;

	return reconciler_has_size(&agent->reconciler);
}

/* Packets matter more than questions about them. */
static void open_control(struct agent *agent)
{
	int r;

	agent->control_agent = (struct control_agent){
		.status = control_status,
		.picture = control_picture,
		.publish = control_publish,
		.resync = control_resync,
		.reload = control_reload,
		.config_path = control_config_path,
		.set_mode = control_set_mode,
		.attach = control_attach,
		.detach = control_detach,
		.is_placed = control_is_placed,
		.has_size = control_has_size,
		.userdata = agent,
	};
	r = control_open(agent->event, agent->run_dir, &agent->control_agent, &agent->control);
	if (r < 0)
		log_error("cannot listen on " CONTROL_SOCKET ": %s; continuing anyway, without it",
			strerror(-r));
}

/*
 * Of a source that was just added, with `r`, and belongs to the event loop. When it fails the loop ends: sd-event
 * would only switch it off, and leave an agent that is deaf on one ear.
 */
static int end_with(sd_event_source *source, int r)
{
	if (r >= 0)
		r = sd_event_source_set_exit_on_failure(source, true);
	if (r >= 0)
		r = sd_event_source_set_floating(source, true);
	sd_event_source_unref(source);
	return r < 0 ? r : 0;
}

static int add_io(struct agent *agent, int fd, uint32_t events, sd_event_io_handler_t handler)
{
	sd_event_source *source = NULL;
	int r = sd_event_add_io(agent->event, &source, fd, events, handler, agent);

	return end_with(source, r);
}

static int add_own_bell(struct agent *agent)
{
	sd_event_source *source = NULL;
	int r = sd_event_add_io(
		agent->event, &source, agent->own_bell_fd, EPOLLIN, on_netlink, agent);

	if (r >= 0)
		r = sd_event_source_set_prepare(source, on_prepare);
	return end_with(source, r);
}

static int add_signal(struct agent *agent, int signal, sd_event_signal_handler_t handler)
{
	sd_event_source *source = NULL;
	sigset_t set;
	int r;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, signal);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(agent->event, &source, signal, handler, agent);
	return end_with(source, r);
}

static int add_timer(struct agent *agent, sd_event_time_handler_t handler, sd_event_source **ret)
{
	int r;

	/* The accuracy is how much systemd may add to gather wake-ups: little for a bell. */
	r = sd_event_add_time(agent->event, ret, CLOCK_MONOTONIC, 0, 1000, handler, agent);
	if (r >= 0)
		r = sd_event_source_set_exit_on_failure(*ret, true);
	return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_hearing(struct agent *agent)
{
	int r = sd_event_add_defer(agent->event, &agent->hearing, on_hearing, agent);

	if (r >= 0)
		r = sd_event_source_set_priority(agent->hearing, HEARING_PRIORITY);
	if (r >= 0)
		r = sd_event_source_set_exit_on_failure(agent->hearing, true);
	return r < 0 ? r : sd_event_source_set_enabled(agent->hearing, SD_EVENT_OFF);
}

static int wire(struct agent *agent)
{
	int r;

	if ((r = sd_event_default(&agent->event)) < 0 ||
		(r = sd_event_set_watchdog(agent->event, true)) < 0 ||
		(r = add_signal(agent, SIGTERM, on_terminate)) < 0 ||
		(r = add_signal(agent, SIGINT, on_terminate)) < 0 ||
		(r = add_signal(agent, SIGHUP, on_reload)) < 0 ||
		(r = add_timer(agent, on_pass_timer, &agent->pass_timer)) < 0 ||
		(r = add_timer(agent, on_periodic_timer, &agent->periodic_timer)) < 0 ||
		(r = publisher_wire(&agent->publisher, agent->event)) < 0 ||
		(r = add_timer(agent, on_upkeep_timer, &agent->upkeep_timer)) < 0 ||
		(r = add_timer(agent, on_links_timer, &agent->links_timer)) < 0 ||
		(r = add_hearing(agent)) < 0 || (r = add_own_bell(agent)) < 0 ||
		(r = add_io(agent, agent->bell_fd, EPOLLIN, on_netlink)) < 0 ||
		(r = add_io(agent, agent->link_bell_fd, EPOLLIN, on_links)) < 0 ||
		(r = add_io(agent, agent->mount_bell_fd, EPOLLPRI, on_mounts)) < 0)
		return r;
	return 0;
}

/* Subscribes before the first pass reads, so that nothing falls between the two. */
static int open_bells(struct agent *agent)
{
	int r;

	r = events_open(EVENTS_OWN_NETNS, 0, &agent->own_bell_fd);
	if (r < 0) {
		log_error("cannot subscribe to netlink events: %s", strerror(-r));
		return r;
	}
	r = events_open(EVENTS_ALL_NETNS, 0, &agent->bell_fd);
	if (r < 0) {
		log_error("cannot subscribe to the events of all namespaces: %s%s", strerror(-r),
			r == -EPERM ? " (it needs CAP_NET_BROADCAST)" : "");
		return r;
	}
	agent->mount_bell_fd = netns_open_mount_bell();
	if (agent->mount_bell_fd < 0) {
		log_error("cannot watch mounts: %s", strerror(-agent->mount_bell_fd));
		return agent->mount_bell_fd;
	}
	agent->link_bell_fd = netns_open_link_bell();
	if (agent->link_bell_fd < 0) {
		log_error("cannot watch links: %s", strerror(-agent->link_bell_fd));
		return agent->link_bell_fd;
	}
	netns_watch_links(agent->link_bell_fd);
	return 0;
}

/* One agent at a time: two would undo each other's rows. */
static int open_run_directory(struct agent *agent)
{
	const char *path = run_directory();
	bool is_first;
	int r;

	r = file_open_directory(path, 0755, &agent->run_dir);
	if (r < 0) {
		log_error("cannot use the directory %s: %s", path, strerror(-r));
		return r;
	}
	is_first = faccessat(agent->run_dir, LOCK_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0;
	r = open_lock(agent, LOCK_FILE, 0600, &agent->lock);
	if (r == 0)
		r = open_lock(agent, LIFE_FILE, 0640, &agent->life);
	if (r < 0)
		return r;
	r = take_lock(agent->lock);
	if (r == 0)
		r = show_life(agent, is_first);
	if (r < 0)
		log_error(
			"%s", r == -EWOULDBLOCK ? "another ipipdirectd is running" : strerror(-r));
	return r;
}

/*
 * A pass that must be repeated right away is: a namespace may come or go while it is read. So is one that
 * another is to follow: `--once` leaves a world at rest.
 */
static int first_pass(struct agent *agent, int tries)
{
	int r = -EAGAIN;

	for (int i = 0; i < tries && r == -EAGAIN; i++) {
		if (i >= AT_ONCE)
			(void)usleep((useconds_t)agent->retry_usec);
		r = run_pass(agent);
	}
	while (agent->is_unsettled)
		r = run_pass(agent);
	return r;
}

/* There is no later pass that could mend it. */
static int run_once(struct agent *agent)
{
	int r = first_pass(agent, 2 * AT_ONCE);

	interfaces_give_back(&agent->reconciler.interfaces);
	(void)publisher_publish(&agent->publisher);
	if (r < 0)
		return EXIT_FAILED;
	return reconciler_is_degraded(&agent->reconciler) ? EXIT_DEGRADED : EXIT_SUCCESS;
}

static int run_loop(struct agent *agent)
{
	int r = wire(agent);

	if (r < 0) {
		log_error("cannot set up the event loop: %s", strerror(-r));
		return EXIT_FAILED;
	}
	(void)first_pass(agent, AT_ONCE);
	r = publisher_publish(&agent->publisher);
	open_control(agent);
	notify_ready(agent);
	if ((r < 0 && (r = publisher_publish_soon(&agent->publisher)) < 0) ||
		(r = arm_periodic(agent)) < 0 || (r = run_upkeep(agent)) < 0 ||
		(r = arm_links_timer(agent)) < 0 || (r = pass_later(agent)) < 0 ||
		(r = sd_event_loop(agent->event)) < 0) {
		log_error("the event loop ended: %s", strerror(-r));
		return EXIT_FAILED;
	}
	interfaces_give_back(&agent->reconciler.interfaces);
	agent->ended_well = true;
	return EXIT_SUCCESS;
}

/* `r`: what came of reading it. Returns 0 where it is well, or spoilt for good. */
static int go_on(int r, const char *what, const char *how)
{
	if (r >= 0)
		return 0;
	if (error_may_pass(r)) {
		log_error("cannot read %s: %s", what, strerror(-r));
		return r;
	}
	log_error("cannot read %s: %s; continuing anyway, %s", what, strerror(-r), how);
	return 0;
}

/*
 * Nobody knows any more whom operators took off. Then it is everybody, until one of them says otherwise. That is noted in
 * place of what cannot be read, which would undo his word at the next start.
 */
static void forget_modes(struct agent *agent)
{
	struct placement *placement = &agent->reconciler.interfaces.placement;
	int r;

	*placement = (struct placement){ .detached = true };
	if (agent->options.dry_run)
		return;
	r = placement_store(agent->run_dir, placement);
	if (r == 0)
		r = modes_forget(&agent->modes);
	if (r < 0)
		log_error("cannot note that nobody's mode is known: %s", strerror(-r));
}

/*
 * What operators said to agents before, and what those knew. A dry run shows what an agent would do that finds it.
 * -errno: it cannot be read just now. Whoever went on without would send direct what an operator took off, or
 * take off what he did not; the next start is a better try, and the programs go on meanwhile.
 */
static int load_legacy(struct agent *agent)
{
	_cleanup_close_ int own = -1;
	int dir = agent->run_dir, r;
	bool spoilt;
	size_t lost;

	if (agent->options.dry_run)
		dir = own = open(run_directory(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return 0;
	r = modes_load(&agent->modes, dir, &lost);
	spoilt = r < 0;
	r = go_on(r, "the modes that were given to tunnels", "detached");
	if (r < 0)
		return r;
	if (lost > 0)
		log_error(
			"cannot read %zu of the modes that were given to tunnels; continuing anyway, with mode tunnel for those whose names are known",
			lost);
	agent->reconciler.overrides = &agent->modes.overrides;
	r = go_on(held_load(dir, &agent->reconciler.once_held), HELD_FILE,
		"in doubt about every address of a tunnel");
	if (r < 0)
		return r;
	r = go_on(placement_load(dir, &agent->reconciler.interfaces.placement), PLACEMENT_FILE,
		"detached");
	if (r == 0 && spoilt)
		forget_modes(agent);
	return r;
}

static int run(struct agent *agent)
{
	char text[CONFIG_ERROR_MAX];
	int r;

	/* What others wrote, the configuration included, is read with no more rights than needed. */
	r = prepare_rights(agent->run_dir);
	if (r < 0)
		return EXIT_FAILED;
	r = load_config(agent, &agent->config, &agent->config_error);
	if (r < 0) {
		log_error("%s: %s", config_name(agent),
			config_error_format(&agent->config_error, text));
		return EXIT_FAILED;
	}
	if (!agent->options.dry_run && open_bells(agent) < 0)
		return EXIT_FAILED;
	if (reconciler_init(&agent->reconciler, &agent->config, agent->run_dir) < 0)
		return EXIT_FAILED;
	agent->publisher.reconciler = &agent->reconciler;
	agent->publisher.run_dir = agent->run_dir;
	agent->publisher.locks[0] = agent->lock;
	agent->publisher.locks[1] = agent->life;
	agent->reconciler.config_path = agent->config_path;
	agent->reconciler.config_file = config_name(agent);
	if (load_legacy(agent) < 0)
		return EXIT_FAILED;
	if (agent->options.dry_run) {
		r = reconciler_dry_run(&agent->reconciler, stdout);
		if (r < 0)
			log_error("cannot make the plan: %s", strerror(-r));
		return r < 0 ? EXIT_FAILED : EXIT_SUCCESS;
	}
	return agent->options.once ? run_once(agent) : run_loop(agent);
}

__attribute__((format(printf, 2, 0))) static int print_libbpf(
	enum libbpf_print_level level, const char *format, va_list ap)
{
	_cleanup_free_ char *text = NULL;
	char *save;

	/* What it calls a warning is often a question it asked the kernel; errors come back to us. */
	(void)level;
	if (vasprintf(&text, format, ap) < 0)
		return 0;
	/* The verifier's log is one message of many lines. */
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		log_debug("%s", line);
	return 0;
}

int main(int argc, char **argv)
{
	_cleanup_(agent_done) struct agent agent = {
		.reconciler = RECONCILER_NONE,
		.run_dir = -1,
		.lock = -1,
		.life = -1,
		.bell_fd = -1,
		.own_bell_fd = -1,
		.mount_bell_fd = -1,
		.link_bell_fd = -1,
	};
	int r;

	r = options_parse(argc, argv, &agent.options);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	log_set_level(agent.options.log_level);
	(void)libbpf_set_print(print_libbpf);
	if (!agent.options.dry_run && open_run_directory(&agent) < 0)
		return EXIT_FAILED;
	if (agent.options.prepare)
		return prepare_for_account(agent.run_dir) < 0 ? EXIT_FAILED : EXIT_SUCCESS;
	return run(&agent);
}
