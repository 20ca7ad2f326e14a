/* SPDX-License-Identifier: MIT */
#pragma once
/* Names of the reasons for which a packet stays on the tunnel, as status, CLI and metrics spell them. */

#include "schema/maps.h"

/* "no-entry", "shadow", …; "reserved" for a number that this build does not know. Never NULL. */
const char *maps_reason_name(enum maps_reason reason);
