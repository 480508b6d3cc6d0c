-- MapServer names its own address in GetCapabilities, and clients follow it. The port that the
-- browser used stands only in the Host header: inside the container it is always 80.
local header = lighty.r.req_header
local port = (header["Host"] or ""):match(":(%d+)$")
if port and not header["X-Forwarded-Host"] and not header["X-Forwarded-Port"] then
    header["X-Forwarded-Port"] = port
end
