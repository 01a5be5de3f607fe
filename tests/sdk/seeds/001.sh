# Walkthrough 001, command by command; the status command is run again until the run has ended, as it says.
assistant_response=$(curl -sS -X POST http://localhost:3000/assistants \
-H "Content-Type: application/json" \
-d '{
    "instructions": "You are a personal math tutor. Write and run code to answer math questions.",
    "name": "Math Tutor",
    "tools": [],
    "model": "open-orca/mistral-7b-openorca"
}')
echo $assistant_response
assistant_id=$(echo $assistant_response | jq -r '.id')
thread_response=$(curl -sS -X POST http://localhost:3000/threads \
-H "Content-Type: application/json")
echo $thread_response
thread_id=$(echo $thread_response | jq -r '.id')
message_response=$(curl -sS -X POST http://localhost:3000/threads/$thread_id/messages \
-H "Content-Type: application/json" \
-d '{
    "role": "user",
    "content": "I need to solve the equation 3x + 11 = 14. Can you help me?"
}')
echo $message_response
message_id=$(echo $message_response | jq -r '.id')
run_response=$(curl -sS -X POST http://localhost:3000/threads/$thread_id/runs \
-H "Content-Type: application/json" \
-d '{
    "assistant_id": "'$assistant_id'",
    "instructions": "Please solve the equation."
}')
echo $run_response
run_id=$(echo $run_response | jq -r '.id')
look() {
curl -sS -X GET http://localhost:3000/threads/$thread_id/runs/$run_id \
-H "Content-Type: application/json"
}
for _ in $(seq $((LIMIT_S * 5))); do
  ended=$(look)
  case $(echo "$ended" | jq -r .status) in queued | in_progress) sleep 0.2 ;; *) break ;; esac
done
echo "$ended"
curl -sS http://localhost:3000/threads/$thread_id/messages \
-H "Content-Type: application/json"
