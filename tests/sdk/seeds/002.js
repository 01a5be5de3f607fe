// Walkthrough 002, pasted step by step into a node REPL: a function call, answered by hand. Readers fill in the ids.
const OpenAI = require('openai');

const openai = new OpenAI({
    baseURL: 'http://localhost:3000',
    apiKey: 'EMPTY',
});
// ---
async function createAssistant() {
    const assistant = await openai.beta.assistants.create({
        instructions: "You are a weather bot. Use the provided functions to answer questions.",
        model: "Intel/neural-chat-7b-v3-2",
        name: "Weather Bot",
        tools: [{
            "type": "function",
            "function": {
              "name": "getCurrentWeather",
              "description": "Get the weather in location",
              "parameters": {
                  "type": "object",
                  "properties": {
                  "location": {"type": "string", "description": "The city and state e.g. San Francisco, CA"},
                  "unit": {"type": "string"}
                  },
                  "required": ["location"]
              }
            }
        }]
    });
    console.log(JSON.stringify(assistant, null, 2));
}
createAssistant();
// ---
async function createThread() {
    const thread = await openai.beta.threads.create();
    console.log(JSON.stringify(thread, null, 2));
}
createThread();
// ---
async function createMessage() {
    const message = await openai.beta.threads.messages.create(
        "f74681b8-2371-4db1-946f-3efb070f0b19",
        {
            role: "user",
            content: "What's the weather in San Francisco?"
        }
    );
    console.log(JSON.stringify(message, null, 2));
}
createMessage();
// ---
async function createRun() {
    const run = await openai.beta.threads.runs.create(
        "f74681b8-2371-4db1-946f-3efb070f0b19",
    { 
        assistant_id: "75ce7666-7560-4bb2-8358-48107d94183a",
        instructions: "You are a weather bot. Use the provided functions to answer questions."
    }
    );
    console.log(JSON.stringify(run, null, 2));
}
createRun();
// ---
async function getRun() {
    const run = await openai.beta.threads.runs.retrieve(
        "f74681b8-2371-4db1-946f-3efb070f0b19",
        "3933cbe4-5c26-4f93-b2d8-f03dabc055f2"
    );
    console.log(JSON.stringify(run, null, 2));
}
getRun();
// ---
async function submitToolOutputs() {
    const run = await openai.beta.threads.runs.submitToolOutputs(
        "f74681b8-2371-4db1-946f-3efb070f0b19",
        "3933cbe4-5c26-4f93-b2d8-f03dabc055f2",
        {
            tool_outputs: [
                {
                    tool_call_id: "9cb246b2-061c-46a4-aa34-80e7587c81c4",
                    output: "{\"temperature\": 68, \"unit\": \"F\"}"
                }
            ]
        }
    );
    console.log(JSON.stringify(run, null, 2));
}
submitToolOutputs();
// ---
async function getMessages() {
    const messages = await openai.beta.threads.messages.list(
        "f74681b8-2371-4db1-946f-3efb070f0b19"
    );
    console.log(JSON.stringify(messages, null, 2));
}
getMessages();
