/** Whether a target's name leads to this host for certain: by its loopback interface or a socket in the file system. */
export function leadsToThisHost(target: string): boolean {
  if (/^unix(?:-abstract)?:/.test(target)) return true;
  const address = target.replace(/^(?:ipv[46]:|dns:\/{0,3})/, "");
  // Several addresses may be several daemons, of which the one that knows a region need not be the one that gets the request.
  if (address.includes(",") || address.includes("/")) return false;
  const host = address.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || /^127(?:\.\d{1,3}){3}$/.test(host);
}
