-- Reserve one request, some tokens and a place among the running turns: everything, or nothing.
-- KEYS: the turn's answer; the subjects user, tenant, key; the user's running turns; what those hold.
-- ARGV: tokens, turn id, key id, running turns at most (0: any), milliseconds to hold, milliseconds to remember a
--       grant, milliseconds to remember a refusal; the quotas (see read_windows).
-- Answer: "refused by|retry_ms|running|quotas|lost". Refused by: the number of a quota, 0 granted, -1 by the running
--         turns. Lost: "turn,tokens,key id" of turns given up on this occasion. The same turn gets the same again.
local LOST_MAX = 100
local DAY_MS = 86400 * 1000
local remembered = redis.call('HGET', KEYS[1], 'answer')
if remembered then
  return remembered
end

local tokens, turn, key_id = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local running_max, hold_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local now_us = server_now_us()
local now_ms = math.floor(now_us / 1000)
local windows = read_windows(ARGV[8], now_us)

-- Turns that nobody settled in time are taken for lost: the user gets back what has not leaked away. (Tenants and
-- keys have quotas by the minute alone: there everything has.)
local lost = {}
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now_ms, 'LIMIT', 0, LOST_MAX)) do
  local held = held_by(gone)
  if held then
    for _, window in ipairs(windows) do
      if window.subject == 2 then
        correct(window, window.of_requests and 1 or held.tokens, 0, held.since_us, now_us)
      end
    end
    lost[#lost + 1] = string.format('%s,%d,%s', gone, held.tokens, held.key_id)
  end
  let_go(gone)
end

local refused_by, wait_ms = 0, 0
for place, window in ipairs(windows) do
  local excess = window.used + (window.of_requests and 1 or tokens) - window.limit
  local window_ms = excess > ROUNDING and math.ceil(excess * window.period_us / window.limit / 1000) or 0
  if window_ms > wait_ms then
    refused_by, wait_ms = place, window_ms
  end
end
local running = redis.call('ZCOUNT', KEYS[5], '(' .. now_ms, '+inf')
if refused_by == 0 and running_max > 0 and running >= running_max then
  refused_by, wait_ms = -1, 1000
end

if refused_by == 0 then
  for _, window in ipairs(windows) do
    add(window, window.of_requests and 1 or tokens)
  end
  running = running + 1
  redis.call('ZADD', KEYS[5], now_ms + hold_ms, turn)
  redis.call('HSET', KEYS[6], turn, string.format('%d %.0f %s', tokens, now_us, key_id))
  -- What is lost can be given back as long as it has not leaked away.
  redis.call('PEXPIRE', KEYS[5], DAY_MS + hold_ms)
  redis.call('PEXPIRE', KEYS[6], DAY_MS + hold_ms)
end
write_windows(windows, now_us)

local answer = table.concat(
  {refused_by, wait_ms, running, told(windows), table.concat(lost, ';')}, '|')
redis.call('HSET', KEYS[1], 'answer', answer)
if refused_by == 0 then
  -- Its settlement must find the quotas of this moment, whatever the plan is by then.
  redis.call('HSET', KEYS[1], 'windows', ARGV[8])
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
end
return answer
