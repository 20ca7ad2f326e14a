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
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "agent/kern/netns.h"
#include "agent/options.h"
#include "agent/reconcile.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "agent/util/log.h"

#define RUN_DIR_DEFAULT "/run/ipipdirect"
#define STATUS_FILE "status.json"
#define LOCK_FILE "lock"

/* Bells come in swarms (one `ip netns add` and its set-up ring a dozen times): one pass for all. */
#define DEBOUNCE_USEC (10 * 1000)
#define RETRY_MIN_USEC (50 * 1000)
/* Writing the status of thousands of rows takes longer than a pass. */
#define PUBLISH_MIN_USEC (100 * 1000)

#define USEC_PER_SEC UINT64_C(1000000)

enum exit_status {
	EXIT_USAGE = 1,
	EXIT_FAILED = 2,
	EXIT_DEGRADED = 4,
};

struct agent {
	struct options options;
	struct config config;
	const char *config_path; /* the one in use; NULL: there is none */
	char config_error[CONFIG_ERROR_MAX];
	struct reconciler reconciler;
	sd_event *event;
	sd_event_source *pass_timer;
	sd_event_source *periodic_timer;
	sd_event_source *publish_timer;
	bool pass_is_due, publish_is_due;
	uint64_t retry_usec; /* 0: the last pass needed none */
	uint64_t published_usec;
	char notified[128]; /* what the service manager was told last */
	int run_dir, lock, bell_fd, mount_bell_fd;
};

static void agent_done(struct agent *agent)
{
	sd_event_source_unref(agent->pass_timer);
	sd_event_source_unref(agent->periodic_timer);
	sd_event_source_unref(agent->publish_timer);
	sd_event_unref(agent->event);
	reconciler_done(&agent->reconciler);
	config_done(&agent->config);
	options_done(&agent->options);
	closep(&agent->run_dir);
	closep(&agent->lock);
	closep(&agent->bell_fd);
	closep(&agent->mount_bell_fd);
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
static int load_config(struct agent *agent, struct config *ret, char error[static CONFIG_ERROR_MAX])
{
	const char *path =
		agent->options.config_path ? agent->options.config_path : CONFIG_PATH_DEFAULT;
	_cleanup_(config_done) struct config config = { 0 };
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	r = file_read(path, CONFIG_SIZE_MAX, &text, &size);
	if (r == -ENOENT && !agent->options.config_path) {
		agent->config_path = NULL;
		config_init(&config);
	} else if (r < 0) {
		(void)snprintf(error, CONFIG_ERROR_MAX, "%s", strerror(-r));
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

static void publish(struct agent *agent)
{
	json_t *status = reconciler_status(&agent->reconciler);
	_cleanup_free_ char *text = status ? json_dumps(status, JSON_INDENT(1)) : NULL;
	int r;

	json_decref(status);
	r = text ? file_replace(agent->run_dir, STATUS_FILE, text, strlen(text)) : -ENOMEM;
	if (r < 0)
		log_warning("cannot write " STATUS_FILE ": %s; continuing anyway", strerror(-r));
}

static int on_publish_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	agent->publish_is_due = false;
	agent->published_usec = usec;
	publish(agent);
	return 0;
}

/* At once when the last time was long enough ago, else as soon as it will be. */
static int publish_soon(struct agent *agent)
{
	uint64_t at = agent->published_usec + PUBLISH_MIN_USEC;
	int r;

	if (agent->publish_is_due)
		return 0;
	r = sd_event_source_set_time(agent->publish_timer, at);
	if (r < 0)
		return r;
	agent->publish_is_due = true;
	return sd_event_source_set_enabled(agent->publish_timer, SD_EVENT_ONESHOT);
}

static int pass_in(struct agent *agent, uint64_t usec)
{
	int r;

	if (agent->pass_is_due)
		return 0;
	r = sd_event_source_set_time_relative(agent->pass_timer, usec);
	if (r < 0)
		return r;
	agent->pass_is_due = true;
	return sd_event_source_set_enabled(agent->pass_timer, SD_EVENT_ONESHOT);
}

/* Only what is new: a manager that does not read would block us in time. */
static void notify_status(struct agent *agent)
{
	const struct reconciler *reconciler = &agent->reconciler;
	char text[sizeof(agent->notified)];

	(void)snprintf(text, sizeof(text), "STATUS=%zu tunnels, %zu rows, %zu namespaces%s",
		reconciler->tunnels.n, reconciler->have.n, reconciler->observer.snapshot.n_netns,
		reconciler_is_degraded(reconciler) ? "; degraded" : "");
	if (strcmp(text, agent->notified) == 0)
		return;
	memcpy(agent->notified, text, sizeof(text));
	(void)sd_notify(0, text);
}

static int run_pass(struct agent *agent)
{
	int r = reconciler_run(&agent->reconciler);

	if (r < 0 && r != -EAGAIN)
		log_error("pass failed: %s; trying again", strerror(-r));
	if (r == 0) {
		agent->retry_usec = 0;
	} else {
		uint64_t max = agent->config.resync_interval_s * USEC_PER_SEC;

		agent->retry_usec = agent->retry_usec == 0 ? RETRY_MIN_USEC : agent->retry_usec * 2;
		if (agent->retry_usec > max)
			agent->retry_usec = max;
	}
	notify_status(agent);
	return r;
}

static int on_pass_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;
	int r;

	(void)source;
	(void)usec;
	agent->pass_is_due = false;
	(void)run_pass(agent);
	r = publish_soon(agent);
	if (r < 0)
		return r;
	return agent->retry_usec > 0 ? pass_in(agent, agent->retry_usec) : 0;
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
	reconciler_ring_all(&agent->reconciler);
	r = pass_in(agent, 0);
	return r < 0 ? r : arm_periodic(agent);
}

static void ring(const struct bell *bell, void *userdata)
{
	struct agent *agent = userdata;

	if (bell->overrun)
		log_notice("the kernel dropped netlink events: reading everything anew");
	reconciler_ring(&agent->reconciler, bell);
}

/* A bell cuts a retry's wait short. */
static int on_bell(struct agent *agent)
{
	if (agent->retry_usec > 0)
		agent->pass_is_due = false;
	agent->retry_usec = 0;
	return pass_in(agent, DEBOUNCE_USEC);
}

static int on_netlink(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct agent *agent = userdata;
	int r;

	(void)source;
	(void)revents;
	r = events_read(fd, ring, agent);
	if (r < 0) {
		log_error("cannot read netlink events: %s", strerror(-r));
		return r;
	}
	return on_bell(agent);
}

static int on_mounts(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	(void)fd;
	(void)revents;
	reconciler_ring_list(&agent->reconciler);
	return on_bell(agent);
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	(void)si;
	(void)userdata;
	(void)sd_notify(0, "STOPPING=1");
	log_notice("ending; what is attached goes on working");
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	struct agent *agent = userdata;
	struct config config;
	int r;

	(void)source;
	(void)si;
	(void)sd_notify(0, "RELOADING=1");
	r = load_config(agent, &config, agent->config_error);
	if (r < 0) {
		log_error("%s: %s; the former configuration holds", config_name(agent),
			agent->config_error);
		agent->reconciler.config_error = agent->config_error;
	} else {
		config_done(&agent->config);
		agent->config = config;
		agent->reconciler.config_path = agent->config_path;
		agent->reconciler.config_error = NULL;
		log_notice("configuration loaded");
	}
	(void)sd_notify(0, "READY=1");
	reconciler_ring_all(&agent->reconciler);
	r = arm_periodic(agent);
	return r < 0 ? r : on_bell(agent);
}

static int add_signal(struct agent *agent, int signal, sd_event_signal_handler_t handler)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, signal);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return sd_event_add_signal(agent->event, NULL, signal, handler, agent);
}

static int add_timer(struct agent *agent, sd_event_time_handler_t handler, sd_event_source **ret)
{
	int r;

	/* The accuracy is how much systemd may add to gather wake-ups: little for a bell. */
	r = sd_event_add_time(agent->event, ret, CLOCK_MONOTONIC, 0, 1000, handler, agent);
	return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
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
		(r = add_timer(agent, on_publish_timer, &agent->publish_timer)) < 0)
		return r;
	r = sd_event_add_io(agent->event, NULL, agent->bell_fd, EPOLLIN, on_netlink, agent);
	if (r < 0)
		return r;
	return sd_event_add_io(
		agent->event, NULL, agent->mount_bell_fd, EPOLLPRI, on_mounts, agent);
}

/* Subscribes before the first pass reads, so that nothing falls between the two. */
static int open_bells(struct agent *agent)
{
	int r;

	r = events_open(0, &agent->bell_fd);
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
	return 0;
}

/* ipipdirectctl takes the lock, shared and for an instant, to see whether an agent holds it. */
static int take_lock(int fd)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	for (int i = 0; i < 20; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
	return -EWOULDBLOCK;
}

/* One agent at a time: two would undo each other's rows. */
static int open_run_directory(struct agent *agent)
{
	const char *path = getenv("RUNTIME_DIRECTORY") ?: RUN_DIR_DEFAULT;
	int r;

	r = file_open_directory(path, 0755, &agent->run_dir);
	if (r < 0) {
		log_error("cannot use the directory %s: %s", path, strerror(-r));
		return r;
	}
	agent->lock =
		openat(agent->run_dir, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (agent->lock < 0) {
		r = -errno;
		log_error("cannot open %s/" LOCK_FILE ": %s", path, strerror(-r));
		return r;
	}
	r = take_lock(agent->lock);
	if (r < 0)
		log_error(
			"%s", r == -EWOULDBLOCK ? "another ipipdirectd is running" : strerror(-r));
	return r;
}

/* A pass that must be repeated right away is: a namespace may come or go while it is read. */
static int first_pass(struct agent *agent)
{
	int r = -EAGAIN;

	for (int i = 0; i < 3 && r == -EAGAIN; i++)
		r = run_pass(agent);
	return r;
}

static int run_once(struct agent *agent)
{
	int r = first_pass(agent);

	publish(agent);
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
	(void)first_pass(agent);
	(void)sd_event_now(agent->event, CLOCK_MONOTONIC, &agent->published_usec);
	publish(agent);
	(void)sd_notify(0, "READY=1");
	if ((r = arm_periodic(agent)) < 0 ||
		(agent->retry_usec > 0 && (r = pass_in(agent, agent->retry_usec)) < 0) ||
		(r = sd_event_loop(agent->event)) < 0) {
		log_error("the event loop ended: %s", strerror(-r));
		return EXIT_FAILED;
	}
	return EXIT_SUCCESS;
}

static int run(struct agent *agent)
{
	int r;

	r = load_config(agent, &agent->config, agent->config_error);
	if (r < 0) {
		log_error("%s: %s", config_name(agent), agent->config_error);
		return EXIT_FAILED;
	}
	if (!agent->options.dry_run) {
		if (open_run_directory(agent) < 0 || open_bells(agent) < 0)
			return EXIT_FAILED;
	}
	if (reconciler_init(&agent->reconciler, &agent->config, agent->options.dry_run) < 0)
		return EXIT_FAILED;
	agent->reconciler.config_path = agent->config_path;
	if (agent->options.dry_run) {
		r = reconciler_dry_run(&agent->reconciler, stdout);
		if (r < 0)
			log_error("cannot make the plan: %s", strerror(-r));
		return r < 0 ? EXIT_FAILED : EXIT_SUCCESS;
	}
	return agent->options.once ? run_once(agent) : run_loop(agent);
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list ap)
{
	char line[512];

	/* What it calls a warning is often a question it asked the kernel; errors come back to us. */
	(void)level;
	(void)vsnprintf(line, sizeof(line), format, ap);
	line[strcspn(line, "\n")] = '\0';
	log_debug("%s", line);
	return 0;
}

int main(int argc, char **argv)
{
	_cleanup_(agent_done) struct agent agent = {
		.reconciler.maps = ENTRY_MAPS_NONE,
		.run_dir = -1,
		.lock = -1,
		.bell_fd = -1,
		.mount_bell_fd = -1,
	};
	int r;

	r = options_parse(argc, argv, &agent.options);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	log_set_level(agent.options.log_level);
	(void)libbpf_set_print(print_libbpf);
	return run(&agent);
}
