/* Servers in the namespace of the far end, one at a time, and the peer of peer.h beside them. A launcher, forked before
 * this process calls the library, starts, stops and kills them on command, so that each server is a fresh process, like
 * a node's. */
#pragma once

/* Forks the launcher. Call it before any function of the library. */
void servers_launch(void);
void servers_start(void);
/* Stops the server, and checks that it ends well. */
void servers_stop(void);
void servers_kill(void);
/* Returns how many sessions the service lists for C, or -1 if an entry differs from what its channel shows. */
int servers_list(void);
