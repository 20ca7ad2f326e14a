/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/config_file.h"
#include "agent/core/config.h"
#include "agent/options.h"
#include "agent/util/account.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/log.h"

static const char help[] =
	"Usage: ipipdirectd [OPTION]...\n"
	"\n"
	"Finds the IPIP tunnels of all network namespaces and has their replies sent\n"
	"straight to the clients instead of back through the tunnel.\n"
	"\n"
	"  -c, --config FILE            configuration (default " CONFIG_PATH_DEFAULT ",\n"
	"                               which need not exist)\n"
	"  -i, --interface IF           attach to IF; may be given several times\n"
	"                               (default: the interfaces of the default routes)\n"
	"      --resync-interval SECS   time between two full passes (default 30)\n"
	"      --once                   one pass, then exit; what is attached goes on working\n"
	"      --dry-run                print what a pass would do and change nothing\n"
	"      --prepare                as root: hand what other agents left to the user\n"
	"                               " ACCOUNT_NAME ", and exit\n"
	"      --log-level LEVEL        error, warning, notice, info (default) or debug\n"
	"      --version                print the version\n"
	"  -h, --help                   print this\n"
	"\n"
	"Signals: SIGHUP reloads the configuration; SIGTERM and SIGINT end the agent and\n"
	"leave everything it attached at work. \"ipipdirectctl detach\" removes that.\n"
	"Exit status: 0 done, 1 wrong usage, 2 failed, 4 done but degraded (--once).\n";

enum long_only {
	OPTION_ONCE = 256,
	OPTION_DRY_RUN,
	OPTION_PREPARE,
	OPTION_LOG_LEVEL,
	OPTION_RESYNC_INTERVAL,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "interface", required_argument, NULL, 'i' },
	{ "resync-interval", required_argument, NULL, OPTION_RESYNC_INTERVAL },
	{ "once", no_argument, NULL, OPTION_ONCE },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "prepare", no_argument, NULL, OPTION_PREPARE },
	{ "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

void options_done(struct options *options)
{
	free(options->interfaces);
	*options = (struct options){ 0 };
}

__attribute__((format(printf, 1, 2))) static int usage_error(const char *format, ...)
{
	va_list ap;

	(void)fprintf(stderr, "ipipdirectd: ");
	va_start(ap, format);
	(void)vfprintf(stderr, format, ap);
	va_end(ap);
	(void)fprintf(stderr, "\nTry 'ipipdirectd --help'.\n");
	return -EINVAL;
}

static int add_interface(struct options *options, char *name)
{
	char **slot;

	if (name[0] == '\0' || strlen(name) >= IFNAMSIZ)
		return usage_error("'%s' is no interface name", name);
	slot = ARRAY_APPEND(options->interfaces, options->n_interfaces);
	if (!slot)
		return -ENOMEM;
	*slot = name;
	options->n_interfaces++;
	return 0;
}

static int parse_seconds(const char *text, uint32_t *ret)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (text[0] < '1' || text[0] > '9' || errno != 0 || *end != '\0' ||
		value > CONFIG_RESYNC_INTERVAL_MAX_S)
		return usage_error("--resync-interval: expected 1 to %d seconds, got '%s'",
			CONFIG_RESYNC_INTERVAL_MAX_S, text);
	*ret = (uint32_t)value;
	return 0;
}

static int take_option(struct options *options, int option)
{
	switch (option) {
	case 'c':
		options->config_path = optarg;
		return 0;
	case 'i':
		return add_interface(options, optarg);
	case OPTION_RESYNC_INTERVAL:
		return parse_seconds(optarg, &options->resync_interval_s);
	case OPTION_ONCE:
		options->once = true;
		return 0;
	case OPTION_DRY_RUN:
		options->dry_run = true;
		return 0;
	case OPTION_PREPARE:
		options->prepare = true;
		return 0;
	case OPTION_LOG_LEVEL:
		if (log_level_parse(optarg, &options->log_level) < 0)
			return usage_error("--log-level: unknown level '%s'", optarg);
		return 0;
	case OPTION_VERSION:
		(void)printf("ipipdirectd %s\n", IPIPDIRECT_VERSION);
		return 1;
	case 'h':
		(void)fputs(help, stdout);
		return 1;
	default: /* getopt has said what is wrong */
		(void)fprintf(stderr, "Try 'ipipdirectd --help'.\n");
		return -EINVAL;
	}
}

int options_parse(int argc, char **argv, struct options *ret)
{
	_cleanup_(options_done) struct options options = { .log_level = LOG_INFO };
	int option, r;

	while ((option = getopt_long(argc, argv, "c:i:h", long_options, NULL)) >= 0) {
		r = take_option(&options, option);
		if (r != 0)
			return r;
	}
	if (optind < argc)
		return usage_error("unexpected argument '%s'", argv[optind]);
	*ret = options;
	options = (struct options){ 0 };
	return 0;
}
