"""The atomic steps of the shared state, in Redis' Lua. Each reads the server's own clock, and touches keys of one tag.

Rules
- RATE: `level + outstanding <= burst` holds after every step, where outstanding is what all sidecars hold unspent (an
  upper bound: they spend without telling). So what a fleet spends between any two moments is at most
  burst + rate * time. A lease that expires counts as spent.
- A step that a sidecar sends again (it did not see the answer) is known by its number and answered as before.
- Numbers are doubles there: levels are kept in steps of 2**-20 and refilled rounded down, so never more than the rate.
- A state that is not there is begun by what the asker knew last; that it knew another `epoch` tells that it was lost.
"""

# KEYS: state, leases. ARGV: algorithm, count, period_us, burst, id, seq, held, credit, need, want, ttl_ms, epoch,
# known_level, known_at_us, new_epoch, window, credit_window.  credit > 0: given back; < 0: a debt, perhaps of a window
# that is younger than the last answer (`window`).
# -> "granted wait_us level epoch lost lease_us window now_us"
RATE = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local kind, count, period, burst, id = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local seq, held, credit = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local need, want, ttl = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local state, leases = KEYS[1], KEYS[2]
local had = redis.call('HMGET', state, 'e', 'l', 't', 'o', 'u', 'p', 'w', 's:' .. id, 'r:' .. id, 'h:' .. id)
local epoch, lost = had[1], 0
if epoch and epoch == ARGV[12] and tonumber(had[8] or -1) == seq then return had[9] end
local out = tonumber(had[4] or 0)
local before = tonumber(had[10] or 0)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 200)) do
  if gone ~= id then
    out = out - tonumber(redis.call('HGET', state, 'h:' .. gone) or 0)
    redis.call('HDEL', state, 'h:' .. gone, 's:' .. gone, 'r:' .. gone)
  end
  redis.call('ZREM', leases, gone)
end
if not epoch then
  epoch = ARGV[15]
  if ARGV[12] ~= '' then lost = 1 end
elseif ARGV[12] ~= '' and ARGV[12] ~= epoch then lost = 1
elseif had[8] and ARGV[12] == epoch and tonumber(had[8]) < seq - 1 then lost = 2
end
local granted, wait, level, lease, window = 0, 0, 0, ttl * 1000, 0
if kind == 'b' then
  local at
  if had[2] then level, at = tonumber(had[2]), tonumber(had[3])
  elseif ARGV[12] ~= '' then level, at = tonumber(ARGV[13]), tonumber(ARGV[14])
  else level, at = burst, now end
  if now > at then
    level = level + math.max(0, math.floor((now - at) * count / period * 1048576 - 1)) / 1048576
    if level > burst - out then level = burst - out end
    at = now
  end
  out = out + held - before
  level = math.min(level + credit, burst - out)
  if level >= need then granted = math.max(0, math.min(want, math.floor(level)))
  else wait = math.ceil((need - level) * period / count) end
  level, out = level - granted, out + granted
  redis.call('HSET', state, 't', string.format('%.0f', at), 'l', string.format('%.17g', level))
else
  window = math.floor(now / period)
  local used, past, known = tonumber(had[5] or 0), tonumber(had[6] or 0), tonumber(had[7] or window)
  if not had[7] and ARGV[12] ~= '' and tonumber(ARGV[16]) == window then used = count - tonumber(ARGV[13]) end
  if window > known then
    if window == known + 1 then past = used else past = 0 end
    used = 0
  else window = known end
  if tonumber(ARGV[16]) == window or (credit < 0 and tonumber(ARGV[17]) == window) then
    used = math.max(0, used - credit)
  end
  local left = (window + 1) * period - now
  if left > period then left = period end
  local spent = used
  if kind == 's' then spent = used + math.ceil(past * left / period) end
  level = count - spent
  if level >= need then granted = math.max(0, math.min(want, level))
  else
    wait = left
    if kind == 's' and past > 0 and count - used >= need then
      wait = math.max(1, math.ceil(left - (count - used - need) * period / past))
    end
  end
  used, level, lease = used + granted, level - granted, math.min(lease, left)
  out = out + held - before + granted
  redis.call('HSET', state, 'u', used, 'p', past, 'w', string.format('%.0f', window))
end
local answer = string.format('%.0f %.0f %.0f %s %d %.0f %.0f %.0f', granted, wait, math.floor(level), epoch, lost,
  lease, window, now)
redis.call('HSET', state, 'e', epoch, 'o', string.format('%.17g', out), 'h:' .. id, held + granted, 's:' .. id, seq,
  'r:' .. id, answer)
redis.call('ZADD', leases, now + ttl * 1000, id)
local keep = math.ceil(math.max(60000, 2 * ttl, 2 * period / 1000, 2 * burst / count * period / 1000))
redis.call('PEXPIRE', state, string.format('%.0f', keep))
redis.call('PEXPIRE', leases, string.format('%.0f', keep))
return answer
"""

# KEYS: sum. ARGV: id, seq, amount, epoch, known, new_epoch, ttl_ms -> "epoch lost total"
SPEND = """
local key, id = KEYS[1], ARGV[1]
local had = redis.call('HMGET', key, 'e', 's:' .. id)
local epoch, lost = had[1], 0
if not epoch or (ARGV[4] ~= '' and ARGV[4] ~= epoch) then
  if ARGV[4] ~= '' then lost = 1 end
  if not epoch then
    epoch = ARGV[6]
    redis.call('HSET', key, 'e', epoch, 't', '0')
  end
  local total = redis.call('HGET', key, 't')
  if lost == 1 and tonumber(ARGV[5]) > tonumber(total) then redis.call('HSET', key, 't', ARGV[5]) end
elseif had[2] and ARGV[4] == epoch and tonumber(had[2]) < tonumber(ARGV[2]) - 1 then lost = 2 end
if not (had[2] and tonumber(had[2]) >= tonumber(ARGV[2])) then
  if redis.call('HINCRBY', key, 't', ARGV[3]) < 0 then redis.call('HSET', key, 't', '0') end
  redis.call('HSET', key, 's:' .. id, ARGV[2])
end
redis.call('PEXPIRE', key, ARGV[7])
return epoch .. ' ' .. lost .. ' ' .. redis.call('HGET', key, 't')
"""

# KEYS: state, leases. ARGV: limit, id, held, want, ttl_ms -> "granted free"
SLOTS = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local state, leases, limit, id = KEYS[1], KEYS[2], tonumber(ARGV[1]), ARGV[2]
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
  redis.call('ZREM', leases, gone)
  redis.call('HDEL', state, gone)
end
local total = 0
for at, held in ipairs(redis.call('HVALS', state)) do total = total + tonumber(held) end
total = total - tonumber(redis.call('HGET', state, id) or 0) + tonumber(ARGV[3])
local granted = math.max(0, math.min(tonumber(ARGV[4]), limit - total))
local held = tonumber(ARGV[3]) + granted
if held > 0 then
  redis.call('HSET', state, id, held)
  redis.call('ZADD', leases, now + tonumber(ARGV[5]) * 1000, id)
  redis.call('PEXPIRE', state, 10 * tonumber(ARGV[5]))
  redis.call('PEXPIRE', leases, 10 * tonumber(ARGV[5]))
else
  redis.call('HDEL', state, id)
  redis.call('ZREM', leases, id)
end
return granted .. ' ' .. (limit - total - granted)
"""

# KEYS: fleet, revocations. ARGV: id, ttl_ms (0: leave) -> "sidecars revocations"
FLEET = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
if ARGV[2] == '0' then redis.call('ZREM', KEYS[1], ARGV[1])
else redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]) * 1000, ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZCARD', KEYS[1]) .. ' ' .. redis.call('HLEN', KEYS[2])
"""
