// Times as people say them: in the zone of whoever looks, which is named.

const STAMP = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });

/** 3 Nov 2026 14:05 CET. @param {string} at ISO 8601 */
export const stamp = (at) => STAMP.format(new Date(at)).replace(",", "");
