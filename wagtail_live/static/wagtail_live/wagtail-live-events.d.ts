/** Types of wagtail-live-events.js. The manual is docs/reference/client.md */

import type { Transport } from "./wagtail-live.js";

/** The event stream, for `connect(url, { transport: eventStream })`: no WebSocket is tried. */
export const eventStream: Transport;
